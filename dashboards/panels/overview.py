"""Are listeners well, and if not, which promise is breaking for whom?"""

from __future__ import annotations

from dashboards.builder.look import Color, Threshold, Unit, worse_above, worse_below
from dashboards.builder.model import Dashboard, Row, Stat, Table, Target, TimeSeries
from dashboards.panels.overview_detail import CAPACITY, DETAIL
from dashboards.panels.queries import (
    BOTH,
    BY_TIER,
    MODEL,
    TIER,
    increase,
    or_zero,
    rate,
    share,
    total,
)

GOOD_EVENTS = f'{BOTH},result="good"'
FIRING = f'ALERTS{{alertstate="firing",{BY_TIER}}}'
PAGES = f'ALERTS{{alertstate="firing",severity="page",{BY_TIER}}}'
TICKETS = f'ALERTS{{alertstate="firing",severity="ticket",{BY_TIER}}}'

_ALERT = "alertname, sloth_slo, tier, severity"
ACTIVE_FOR = (
    f"max by ({_ALERT}, alertstate) (ALERTS{{{BY_TIER}}}) * on ({_ALERT}) group_left () "
    f"(time() - min by ({_ALERT}) (ALERTS_FOR_STATE{{{BY_TIER}}}))"
)

ANSWER = Row(
    "Are we OK?",
    (
        Stat(
            "Pages",
            "Alerts that wake somebody and are firing now.",
            "At 1 or more: open the runbook of the alert in the table below.",
            (Target(or_zero(f"count({PAGES})"), "firing"),),
            thresholds=(Threshold(None, Color.GREEN), Threshold(1, Color.RED)),
        ),
        Stat(
            "Tickets",
            "Alerts for a working day that are firing now: a budget is spent faster than it comes back.",
            "When one stays for more than a day.",
            (Target(or_zero(f"count({TICKETS})"), "firing"),),
            thresholds=worse_above(1, 5),
        ),
        Stat(
            "Smallest error budget",
            "What the worst objective has left of its 30 days: 100 % is untouched, below 0 the promise is broken.",
            "Below 25 %: put changes that risk more on hold. Below 0: stability comes first.",
            (Target(f"min(slo:period_error_budget_remaining:ratio{{{BY_TIER}}})", "left"),),
            unit=Unit.RATIO,
            thresholds=worse_below(0.25, 0),
            decimals=1,
        ),
        Stat(
            "Good events",
            "Share of all events, over what is shown, that met their objective: first audio, continuity, success, and "
            "so on.",
            "Below 99 %: the table below says which objective it is.",
            (
                Target(
                    share(increase("tutti_sli_events_total", GOOD_EVENTS), increase("tutti_sli_events_total", BOTH)),
                    "good",
                ),
            ),
            unit=Unit.RATIO,
            thresholds=worse_below(0.995, 0.99),
            sparkline=False,
            decimals=2,
        ),
        Stat(
            "Good audio",
            "Seconds of audio per second from requests that met all their objectives: what the platform is for.",
            "When it falls while requests do not.",
            (Target(rate("tutti_audio_goodput_seconds_total", BOTH), "good audio"),),
            unit=Unit.AUDIO_SECONDS_PER_SECOND,
            decimals=1,
        ),
        Stat(
            "Streams now",
            "Audio streams being heard at this moment.",
            "When it falls to 0 at a time when people listen.",
            (Target(total("tutti_active_streams", BOTH), "streams"),),
            decimals=0,
        ),
    ),
)

BREACHING = Row(
    "What is breaching?",
    (
        Table(
            "Alerts",
            "Alerts that are pending or firing, the tier they are about, how urgent they are and for how long.",
            "Each line has a runbook with the name of its objective.",
            (Target(ACTIVE_FOR, "For", unit=Unit.SECONDS),),
            labels=(
                ("alertname", "Alert"),
                ("sloth_slo", "Objective"),
                ("tier", "Tier"),
                ("severity", "Severity"),
                ("alertstate", "State"),
            ),
            width=11,
            height=13,
            empty="No alert is pending or firing",
        ),
        Table(
            "Objectives",
            "Every objective with its target, what was reached in 30 days, how fast its budget burns now and what is "
            "left. "
            "A burn rate of 1 spends exactly the budget in 30 days.",
            "A budget below 25 %, or a burn rate above 6: that is a page within hours.",
            (
                Target(f"max by (sloth_slo, tier) (slo:objective:ratio{{{BY_TIER}}})", "Target", unit=Unit.RATIO),
                Target(
                    f"1 - max by (sloth_slo, tier) (slo:sli_error:ratio_rate30d{{{BY_TIER}}})",
                    "Reached",
                    unit=Unit.RATIO,
                ),
                Target(
                    f"max by (sloth_slo, tier) (slo:current_burn_rate:ratio{{{BY_TIER}}})",
                    "Burn rate",
                    unit=Unit.TIMES,
                    thresholds=worse_above(1, 6),
                ),
                Target(
                    f"min by (sloth_slo, tier) (slo:period_error_budget_remaining:ratio{{{BY_TIER}}})",
                    "Budget left",
                    unit=Unit.RATIO,
                    thresholds=worse_below(0.25, 0),
                ),
            ),
            labels=(("sloth_slo", "Objective"), ("tier", "Tier")),
            width=13,
            height=13,
        ),
        TimeSeries(
            "Burn rate",
            "How many times faster than allowed each objective spends its error budget, over the last five minutes.",
            "Above 14.4 for long enough it pages (2 % of the month in an hour); above 1 for days it will not last the "
            "month.",
            (Target(f"max by (sloth_slo) (slo:current_burn_rate:ratio{{{BY_TIER}}})", "{{sloth_slo}}"),),
            unit=Unit.TIMES,
            thresholds=(Threshold(None, Color.GREEN), Threshold(1, Color.ORANGE), Threshold(14.4, Color.RED)),
            threshold_lines=True,
        ),
        TimeSeries(
            "Bad events",
            "Events per second that missed an objective, by what they missed.",
            "A step upwards: the objective with that name burns.",
            (Target(rate("tutti_sli_events_total", f'{BOTH},result="bad"', "sli"), "{{sli}}"),),
            unit=Unit.PER_SECOND,
            stacked=True,
        ),
    ),
)

OVERVIEW = Dashboard(
    "slo-overview",
    "Tutti: service levels",
    "Are listeners well, which promise is breaking, for whom, and is it capacity?",
    (ANSWER, BREACHING, DETAIL, CAPACITY),
    (MODEL, TIER),
)
