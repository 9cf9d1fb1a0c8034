"""Are there enough replicas, and why does the autoscaler want what it wants?"""

from __future__ import annotations

from dashboards.builder.look import Color, Style, Unit, worse_above
from dashboards.builder.model import BarGauge, Dashboard, Row, Stat, Target, TimeSeries
from dashboards.panels.engine import CAPACITY, MADE, busy_share, rows_in_use
from dashboards.panels.queries import BOTH, BY_MODEL, MODEL, TIER, backlog, increase, rate, share, total

NO_AUTOSCALER = "No autoscaler reports: the number of replicas is as serve_config.yaml says"
REPLICAS = "tutti_autoscaler_replicas"
DEMAND = "tutti_autoscaler_demand_replicas"
GPU = "tutti_gpu_seconds_total"
READY = f'{BY_MODEL},state="ready"'
DESIRED = f'{BY_MODEL},state="desired"'
LOAD = share(rate(MADE, BY_MODEL), total(CAPACITY, BY_MODEL))

ANSWER = Row(
    "Are we OK?",
    (
        Stat(
            "Capacity used",
            "Audio made per second, as a share of what the replicas that are ready can make.",
            "Above 85 %: waiting times grow steeply from there.",
            (Target(LOAD, "used"),),
            unit=Unit.RATIO,
            thresholds=worse_above(0.85, 1),
            decimals=0,
        ),
        Stat(
            "Time to clear the backlog",
            "Seconds that the replicas need for what is accepted now, if nothing more came.",
            "When it is longer than the time a replica takes to start.",
            (Target(share(backlog(BOTH), total(CAPACITY, BY_MODEL)), "clear in"),),
            unit=Unit.SECONDS,
            thresholds=worse_above(15, 60),
            decimals=1,
        ),
        Stat(
            "Rows in use",
            "Share of all rows that hold a track.",
            "At 100 % for minutes.",
            (Target(rows_in_use(), "in use"),),
            unit=Unit.RATIO,
            thresholds=worse_above(0.85, 1),
            decimals=0,
        ),
        Stat(
            "Replicas ready",
            "Replicas that can take a request now.",
            "Fewer than desired for longer than a start takes.",
            (Target(total(REPLICAS, READY), "ready"),),
            decimals=0,
            empty=NO_AUTOSCALER,
        ),
        Stat(
            "Replicas missing",
            "Desired, less those that are ready.",
            "Above 0 for longer than a start takes: starts fail, or there is no room.",
            (Target(f"{total(REPLICAS, DESIRED)} - {total(REPLICAS, READY)}", "missing"),),
            thresholds=worse_above(1, 3),
            decimals=0,
            empty=NO_AUTOSCALER,
        ),
        Stat(
            "Good audio per GPU second",
            "Seconds of audio from requests that met all their objectives, per second of a GPU that is paid for.",
            "When it falls: replicas idle, or quality is lost.",
            (Target(share(rate("tutti_audio_goodput_seconds_total", BOTH), rate(GPU, BY_MODEL)), "per GPU second"),),
            unit=Unit.AUDIO_SECONDS,
            decimals=1,
            empty=NO_AUTOSCALER,
        ),
    ),
)

REPLICAS_ROW = Row(
    "Replicas",
    (
        TimeSeries(
            "Replicas by state",
            "Replicas that are ready, starting and draining, and how many the autoscaler wants.",
            "Starting that never becomes ready.",
            (
                Target(total(REPLICAS, f'{BY_MODEL},state!="desired"', "state"), "{{state}}"),
                Target(total(REPLICAS, DESIRED), "desired", Color.RED, Style.BOUND),
            ),
            stacked=True,
            empty=NO_AUTOSCALER,
        ),
        TimeSeries(
            "Demand, explained",
            "Replicas that the decision is made of: for what arrives (base), for its unevenness (headroom), "
            "and for what waits (backlog). The wish is the larger of base with headroom, and backlog.",
            "When headroom is most of it: traffic is uneven, and a static floor may be cheaper.",
            (
                Target(total(DEMAND, f'{BY_MODEL},component=~"base|headroom"', "component"), "{{component}}"),
                Target(total(DEMAND, f'{BY_MODEL},component="backlog"'), "backlog", Color.RED, Style.BOUND),
            ),
            stacked=True,
            empty=NO_AUTOSCALER,
        ),
        TimeSeries(
            "Ready and desired by model",
            "Each model's replicas that are ready, against those desired.",
            "A model that stays below what is desired while another has more: there is no room on the GPUs.",
            (
                Target(total(REPLICAS, READY, "model"), "{{model}}"),
                Target(total(REPLICAS, DESIRED, "model"), "{{model}}, desired", style=Style.BOUND),
            ),
            empty=NO_AUTOSCALER,
        ),
        BarGauge(
            "Decisions",
            "Changes that the autoscaler decided over what is shown, and why; and how often its signals became stale.",
            "Up and down in turns: it hunts. Hold for stale signals: workers do not report.",
            (
                Target(
                    f"{increase('tutti_autoscaler_decisions_total', BY_MODEL, 'action, reason')} > 0",
                    "{{action}}: {{reason}}",
                ),
            ),
            decimals=0,
            width=12,
            empty="Nothing was changed",
        ),
        TimeSeries(
            "Last start by model",
            "Seconds from asking for a replica until it served, of the last one that started.",
            "Longer than cold_start_s in serve_config.yaml: who waits for a start was told less. Which stage it is, "
            "the engine's dashboard shows; what is missing there, the replica waited for its place.",
            (Target(f"max by (model) (tutti_autoscaler_start_seconds{{{BY_MODEL}}})", "{{model}}"),),
            unit=Unit.SECONDS,
            empty="No replica has started since the controller did",
        ),
        BarGauge(
            "Starts over their budget",
            "Replicas that took longer to start than cold_start_s in serve_config.yaml, over what is shown.",
            "Any: measure the stages (`python -m benchmarks.cold_start`), or set the budget to what a start takes.",
            (
                Target(
                    f"{increase('tutti_autoscaler_starts_over_budget_total', BY_MODEL, 'model')} > 0",
                    "{{model}}",
                ),
            ),
            decimals=0,
            width=12,
            empty="Every start was within its budget",
        ),
    ),
)

LOAD_ROW = Row(
    "Load and capacity",
    (
        TimeSeries(
            "Asked for, made, possible",
            "Seconds of audio per second: accepted from clients, made by engines, and what engines could make at most.",
            "When asked-for stays above possible: the backlog grows until requests are turned away.",
            (
                Target(rate("tutti_audio_requested_seconds_total", BOTH), "asked for"),
                Target(rate(MADE, BY_MODEL), "made"),
                Target(total(CAPACITY, BY_MODEL), "possible", Color.RED, Style.BOUND),
            ),
            unit=Unit.AUDIO_SECONDS_PER_SECOND,
        ),
        TimeSeries(
            "Backlog by model",
            "Seconds of audio that are accepted and not made yet.",
            "When it grows for longer than a replica takes to start.",
            (Target(backlog(BOTH, "model"), "{{model}}"),),
            unit=Unit.AUDIO_SECONDS,
            stacked=True,
        ),
        TimeSeries(
            "Time to clear the backlog by model",
            "Seconds of work that are accepted, at the model's capacity.",
            "When it is longer than the deadline of the tier with the most of it.",
            (Target(share(backlog(BOTH, "model"), total(CAPACITY, BY_MODEL, "model")), "{{model}}"),),
            unit=Unit.SECONDS,
        ),
        TimeSeries(
            "Turned away for capacity",
            "Requests per second that were refused because there was no room in time.",
            "Any for enterprise; for free it is how the others are kept well.",
            (Target(rate("tutti_requests_total", f'{BOTH},outcome="rejected_capacity"', "tier"), "{{tier}}"),),
            unit=Unit.PER_SECOND,
            stacked=True,
            empty="Nobody has been turned away",
            runbook="TuttiAdmissionBudgetBurn",
        ),
    ),
)

COST = Row(
    "Cost",
    (
        TimeSeries(
            "GPU seconds by state",
            "Seconds of GPUs per second that are busy, idle, starting or draining.",
            "Idle that is more than the headroom.",
            (Target(rate(GPU, BY_MODEL, "state"), "{{state}}"),),
            unit=Unit.SECONDS,
            stacked=True,
            empty=NO_AUTOSCALER,
        ),
        TimeSeries(
            "Busy share by model",
            "Share of the time that a model's engines are in a step.",
            "Below 20 % for hours on more than the floor: fewer replicas would do.",
            (Target(busy_share("model"), "{{model}}"),),
            unit=Unit.RATIO,
            maximum=1,
        ),
    ),
)

AUTOSCALER = Dashboard(
    "autoscaler-capacity",
    "Tutti: autoscaler and capacity",
    "Enough replicas, for which load, at what cost; and every decision explained.",
    (ANSWER, REPLICAS_ROW, LOAD_ROW, COST),
    (MODEL, TIER),
)
