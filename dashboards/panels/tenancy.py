"""Who gets how much of the platform, by tier.

No metric names a tenant: their number has no bound, and what each of them does is nobody else's business.
"""

from __future__ import annotations

from dashboards.builder.look import Unit, worse_above, worse_below
from dashboards.builder.model import BarGauge, Dashboard, Row, Stat, Table, Target, TimeSeries
from dashboards.objectives import load_objectives
from dashboards.panels.queries import (
    BOTH,
    BY_TIER,
    MODEL,
    TIER,
    backlog,
    increase,
    or_zero,
    quantile,
    quantiles,
    rate,
    share,
    share_of_all,
    total,
)
from dashboards.promql import percent

PROMISED = load_objectives()
DECISIONS = "tutti_admission_decisions_total"
EVENTS = "tutti_sli_events_total"
WAIT = "tutti_queue_wait_seconds"
DELIVERED = "tutti_audio_delivered_seconds_total"
REQUESTED = "tutti_audio_requested_seconds_total"


def _admitted(tier: str) -> Target:
    where = f'model=~"$model",tier="{tier}",sli="admission"'
    good = increase(EVENTS, f'{where},result="good"')
    return Target(share(good, increase(EVENTS, where)), tier)


def _admission(tier: str) -> Stat:
    objective = PROMISED.objective("admission", tier)
    promised = percent(objective)
    return Stat(
        f"Admitted, {tier}",
        f"Share of this tier's eligible requests, over what is shown, that were let in. Promised: {promised}.",
        f"Below {promised}.",
        (_admitted(tier),),
        unit=Unit.RATIO,
        thresholds=worse_below((1 + objective) / 2, objective),
        sparkline=False,
        decimals=2,
        runbook="TuttiAdmissionBudgetBurn",
    )


ANSWER = Row(
    "Are we OK?",
    (
        *map(_admission, PROMISED.tiers),
        Stat(
            "Enterprise waits",
            "95th percentile of the time that requests of the highest tier spend waiting.",
            "Above half a second: reserved rows are in use, or none are reserved.",
            (Target(quantile(0.95, WAIT, 'model=~"$model",tier="enterprise"'), "p95"),),
            unit=Unit.SECONDS,
            thresholds=worse_above(0.25, 0.5),
        ),
        Stat(
            "Over their own limit",
            "Requests per second that were refused for a limit of the tenant's own: rate, quota or concurrency.",
            "A sudden rise: a client retries without waiting. It counts against no objective.",
            (Target(or_zero(rate(DECISIONS, f'{BY_TIER},reason=~"rate_limit|quota|concurrency"')), "refused"),),
            unit=Unit.PER_SECOND,
        ),
        Stat(
            "Turned away",
            "Requests per second that were refused because the platform had no room in time.",
            "Any for longer than a replica takes to start.",
            (Target(or_zero(rate(DECISIONS, f'{BY_TIER},decision="rejected",reason="capacity"')), "refused"),),
            unit=Unit.PER_SECOND,
            thresholds=worse_above(0.1, 1),
        ),
    ),
)

ADMISSION = Row(
    "Who is turned away?",
    (
        TimeSeries(
            "Admission by tier",
            "Share of eligible requests that were let in. The tenant's own limits and invalid requests are not "
            "eligible.",
            "A higher tier below a lower one: the order of tiers does not hold.",
            (
                Target(
                    share(
                        rate(EVENTS, f'{BOTH},sli="admission",result="good"', "tier"),
                        rate(EVENTS, f'{BOTH},sli="admission"', "tier"),
                    ),
                    "{{tier}}",
                ),
            ),
            unit=Unit.RATIO,
            minimum=None,
            maximum=1,
        ),
        TimeSeries(
            "Refused by reason",
            "Refusals per second, by tier and reason.",
            "capacity for enterprise; error for anybody.",
            (Target(rate(DECISIONS, f'{BY_TIER},decision="rejected"', "tier, reason"), "{{tier}}: {{reason}}"),),
            unit=Unit.PER_SECOND,
            stacked=True,
            empty="Nobody has been turned away",
        ),
        Table(
            "Decisions at the door",
            "Requests over what is shown, by tier, decision and reason.",
            "A reason that you have not seen before.",
            (Target(increase(DECISIONS, BY_TIER, "tier, decision, reason"), "Requests"),),
            labels=(("tier", "Tier"), ("decision", "Decision"), ("reason", "Reason")),
            decimals=0,
            width=12,
        ),
        BarGauge(
            "Requests by tier and mode",
            "Requests per second that ended, streams and jobs.",
            "When one tier's traffic multiplies: the others' waiting times below.",
            (Target(rate("tutti_requests_total", BOTH, "tier, mode"), "{{tier}}, {{mode}}"),),
            unit=Unit.PER_SECOND,
            width=12,
        ),
    ),
)

SHARES = Row(
    "Who gets how much?",
    (
        TimeSeries(
            "Share of the audio",
            "Each tier's share of the audio that is delivered.",
            "A tier at nearly nothing while its backlog grows: its guaranteed minimum does not hold.",
            (Target(share_of_all(rate(DELIVERED, BOTH, "tier"), rate(DELIVERED, BOTH)), "{{tier}}"),),
            unit=Unit.RATIO,
            maximum=1,
            stacked=True,
        ),
        TimeSeries(
            "Share of the demand",
            "Each tier's share of the audio that is asked for and accepted. Fair is: what is delivered looks like "
            "this until "
            "capacity is short, and then the higher tier keeps its part.",
            "When it differs from what is delivered while nothing waits.",
            (Target(share_of_all(rate(REQUESTED, BOTH, "tier"), rate(REQUESTED, BOTH)), "{{tier}}"),),
            unit=Unit.RATIO,
            maximum=1,
            stacked=True,
        ),
        TimeSeries(
            "Delivered of what was asked for",
            "Seconds delivered per second accepted, by tier: 1 is served as it comes, below 1 it queues or is lost.",
            "Below 1 for a tier for longer than its deadline.",
            (Target(share(rate(DELIVERED, BOTH, "tier"), rate(REQUESTED, BOTH, "tier")), "{{tier}}"),),
            unit=Unit.RATIO,
        ),
        TimeSeries(
            "Backlog by tier",
            "Seconds of audio that each tier has accepted and not made.",
            "Free's may grow in a burst. Enterprise's should not.",
            (Target(backlog(BOTH, "tier"), "{{tier}}"),),
            unit=Unit.AUDIO_SECONDS,
            stacked=True,
        ),
    ),
)

WAITING = Row(
    "Who waits?",
    (
        TimeSeries(
            "Queue wait by tier",
            "95th percentile of the time between acceptance and the first step.",
            "Tiers in the wrong order.",
            (Target(quantile(0.95, WAIT, BOTH, "tier"), "{{tier}}", exemplar=True),),
            unit=Unit.SECONDS,
        ),
        TimeSeries(
            "Queue wait of the chosen tiers",
            "Waiting of all chosen tiers together.",
            "A median that leaves 0: it is no longer bursts, it is too little capacity.",
            quantiles(WAIT, BOTH),
            unit=Unit.SECONDS,
        ),
        TimeSeries(
            "Streams by tier",
            "Streams being heard now.",
            "One tier at its limit of concurrent streams, flat as if cut.",
            (Target(total("tutti_active_streams", BOTH, "tier"), "{{tier}}"),),
            stacked=True,
        ),
        TimeSeries(
            "Wasted audio by tier",
            "Seconds of audio per second that were made for nobody in the end.",
            "One tier with most of it: a client that asks and leaves.",
            (Target(rate("tutti_audio_wasted_seconds_total", BOTH, "tier"), "{{tier}}"),),
            unit=Unit.AUDIO_SECONDS_PER_SECOND,
            stacked=True,
        ),
    ),
)

TENANCY = Dashboard(
    "tenancy-fairness",
    "Tutti: tenancy and fairness",
    "Who is let in, who waits and who gets how much, by tier.",
    (ANSWER, ADMISSION, SHARES, WAITING),
    (MODEL, TIER),
)
