"""The lower half of the overview: outcomes, latency, audio, capacity."""

from __future__ import annotations

from dashboards.builder.look import Unit
from dashboards.builder.model import Row, Table, Target, TimeSeries
from dashboards.panels.queries import BOTH, BY_MODEL, BY_TIER, backlog, quantile, rate, share, total

GOOD_EVENTS = f'{BOTH},result="good"'

DETAIL = Row(
    "Detail",
    (
        TimeSeries(
            "Requests by outcome",
            "Finished requests per second. Cancelled are clients that left; rejected are turned away at the door.",
            "Any failed or timeout; rejected_capacity that does not go away means too few replicas.",
            (Target(rate("tutti_requests_total", BOTH, "outcome"), "{{outcome}}"),),
            unit=Unit.PER_SECOND,
            stacked=True,
        ),
        TimeSeries(
            "Good share by objective",
            "Share of events that met their objective, by what was promised.",
            "Below its target in the table above, for minutes.",
            (
                Target(
                    share(
                        rate("tutti_sli_events_total", GOOD_EVENTS, "sli"), rate("tutti_sli_events_total", BOTH, "sli")
                    ),
                    "{{sli}}",
                ),
            ),
            unit=Unit.RATIO,
            minimum=None,
            maximum=1,
        ),
        TimeSeries(
            "Time to first audio, 99th percentile",
            "Nearly every listener heard 0.25 s of music before this time, by tier.",
            "Above the tier's promise in slo.yaml; the dashboard on streaming quality says why.",
            (Target(quantile(0.99, "tutti_time_to_first_audio_seconds", BOTH, "tier"), "{{tier}}", exemplar=True),),
            unit=Unit.SECONDS,
            runbook="TuttiTimeToFirstAudioBudgetBurn",
        ),
        TimeSeries(
            "Audio asked for and heard",
            "Seconds of audio per second: requested, delivered, and delivered by requests that met every objective.",
            "A growing gap between requested and delivered: the platform falls behind. Between delivered and good: it "
            "keeps "
            "up at the cost of quality.",
            (
                Target(rate("tutti_audio_requested_seconds_total", BOTH), "requested"),
                Target(rate("tutti_audio_delivered_seconds_total", BOTH), "delivered"),
                Target(rate("tutti_audio_goodput_seconds_total", BOTH), "good"),
            ),
            unit=Unit.AUDIO_SECONDS_PER_SECOND,
        ),
        Table(
            "Promises in force",
            "What the ingress judges by: the objective and the threshold of each service level and tier, as it was "
            "started with.",
            "When it differs from slo.yaml: a replica runs with an old file.",
            (Target(f"max by (sli, tier, objective, threshold) (tutti_slo_info{{{BY_TIER}}})", "In force"),),
            labels=(
                ("sli", "Service level"),
                ("tier", "Tier"),
                ("objective", "Objective"),
                ("threshold", "Threshold (s)"),
            ),
            width=14,
            height=13,
        ),
        Table(
            "Versions",
            "How many processes of each part run which version.",
            "Two versions of one part for longer than a rollout takes.",
            (Target("count by (role, version) (tutti_build_info)", "Processes"),),
            labels=(("role", "Part"), ("version", "Version")),
            width=10,
            height=13,
        ),
    ),
)

CAPACITY = Row(
    "Capacity",
    (
        TimeSeries(
            "Load and capacity",
            "Audio being made per second, against what the replicas that are ready can make.",
            "When the load reaches the capacity and the backlog grows: see the dashboard on capacity.",
            (
                Target(rate("tutti_engine_audio_generated_seconds_total", BY_MODEL), "made"),
                Target(total("tutti_engine_capacity_audio_seconds_per_second", BY_MODEL), "capacity"),
            ),
            unit=Unit.AUDIO_SECONDS_PER_SECOND,
        ),
        TimeSeries(
            "Backlog",
            "Seconds of audio that are promised and not made yet, waiting and running.",
            "When the waiting part grows for longer than a replica takes to start.",
            (Target(backlog(BOTH, "state"), "{{state}}"),),
            unit=Unit.AUDIO_SECONDS,
            stacked=True,
        ),
    ),
)
