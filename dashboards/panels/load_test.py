"""To look at while ``tutti bench serve`` runs: what goes in, what comes out, where it breaks first."""

from __future__ import annotations

from dashboards.builder.look import Color, Style, Unit, worse_above, worse_below
from dashboards.builder.model import Dashboard, Heatmap, Row, Stat, Table, Target, TimeSeries
from dashboards.panels.engine import CAPACITY, MADE, rows_in_use
from dashboards.panels.queries import (
    BOTH,
    BY_MODEL,
    MODEL,
    TIER,
    backlog,
    buckets,
    increase,
    quantile,
    quantiles,
    rate,
    share,
    total,
)

EVENTS = "tutti_sli_events_total"
REQUESTS = "tutti_requests_total"
FIRST_AUDIO = "tutti_time_to_first_audio_seconds"

ANSWER = Row(
    "Does it hold?",
    (
        Stat(
            "Requests",
            "Requests that end per second, whatever their outcome.",
            "Below the load that the client offers: look at the backlog.",
            (Target(rate(REQUESTS, BOTH), "requests"),),
            unit=Unit.PER_SECOND,
        ),
        Stat(
            "Good audio",
            "Seconds of audio per second from requests that met all their objectives: the number to maximise.",
            "When it falls as the load rises: the limit is behind you.",
            (Target(rate("tutti_audio_goodput_seconds_total", BOTH), "good"),),
            unit=Unit.AUDIO_SECONDS_PER_SECOND,
            decimals=1,
        ),
        Stat(
            "Good of the delivered",
            "Share of the delivered audio that met all objectives.",
            "Below 99 %: this load is too much.",
            (
                Target(
                    share(
                        rate("tutti_audio_goodput_seconds_total", BOTH),
                        rate("tutti_audio_delivered_seconds_total", BOTH),
                    ),
                    "good",
                ),
            ),
            unit=Unit.RATIO,
            thresholds=worse_below(0.995, 0.99),
            decimals=1,
        ),
        Stat(
            "First audio, p99",
            "Nearly every listener hears music within this time.",
            "Above the promise of the tier that is tested.",
            (Target(quantile(0.99, FIRST_AUDIO, BOTH), "p99"),),
            unit=Unit.SECONDS,
            thresholds=worse_above(1, 2.5),
        ),
        Stat(
            "Backlog",
            "Seconds of audio that are accepted and not made yet.",
            "When it grows all the time: the load is above the capacity.",
            (Target(backlog(BOTH), "backlog"),),
            unit=Unit.AUDIO_SECONDS,
            decimals=0,
        ),
        Stat(
            "Rows in use",
            "Share of all rows that hold a track.",
            "At 100 %: saturated.",
            (Target(rows_in_use(), "in use"),),
            unit=Unit.RATIO,
            thresholds=worse_above(0.85, 1),
            decimals=0,
        ),
    ),
)

LOAD = Row(
    "In and out",
    (
        TimeSeries(
            "Requests by outcome",
            "Requests that end, per second.",
            "failed and timeout are the platform's fault, rejected_capacity is how it protects itself.",
            (Target(rate(REQUESTS, BOTH, "outcome"), "{{outcome}}"),),
            unit=Unit.PER_SECOND,
            stacked=True,
        ),
        TimeSeries(
            "Audio in and out",
            "Seconds of audio per second: asked for, delivered, good, and the most that engines could make.",
            "Where good leaves delivered: the limit at the objectives.",
            (
                Target(rate("tutti_audio_requested_seconds_total", BOTH), "asked for"),
                Target(rate("tutti_audio_delivered_seconds_total", BOTH), "delivered"),
                Target(rate("tutti_audio_goodput_seconds_total", BOTH), "good"),
                Target(total(CAPACITY, BY_MODEL), "possible", Color.RED, Style.BOUND),
            ),
            unit=Unit.AUDIO_SECONDS_PER_SECOND,
        ),
        Table(
            "Attainment",
            "Each objective over what is shown: events, and the share of them that was good. The load client's own "
            "report "
            "should say the same.",
            "A share below what slo.yaml promises.",
            (
                Target(increase(EVENTS, BOTH, "sli, tier"), "Events", unit=Unit.COUNT),
                Target(
                    share(increase(EVENTS, f'{BOTH},result="good"', "sli, tier"), increase(EVENTS, BOTH, "sli, tier")),
                    "Good",
                    unit=Unit.RATIO,
                    thresholds=worse_below(0.995, 0.99),
                ),
            ),
            labels=(("sli", "Service level"), ("tier", "Tier")),
            width=12,
            height=12,
        ),
        TimeSeries(
            "Goodput by tier",
            "Seconds of good audio per second, by tier.",
            "A tier whose goodput falls while a lower one's does not.",
            (Target(rate("tutti_audio_goodput_seconds_total", BOTH, "tier"), "{{tier}}"),),
            unit=Unit.AUDIO_SECONDS_PER_SECOND,
            stacked=True,
            height=12,
        ),
    ),
)

LATENCY = Row(
    "What listeners notice",
    (
        TimeSeries(
            "Time to first audio",
            "Measured in the ingress. The load client adds the network and its own intended send time.",
            "When the server's is good and the client's is not: the generator lags, and its report says INVALID.",
            quantiles(FIRST_AUDIO, BOTH),
            unit=Unit.SECONDS,
        ),
        Heatmap(
            "Distribution of the time to first audio",
            "How many streams began within which time.",
            "A cloud that climbs with the load.",
            (Target(buckets(FIRST_AUDIO, BOTH), "{{le}}", exemplar=True),),
            unit=Unit.SECONDS,
        ),
        TimeSeries(
            "Stall",
            "Silence in the middle of a stream, 95th and 99th percentile.",
            "Anything above the tier's promise.",
            tuple(
                Target(quantile(q, "tutti_stream_stall_seconds", BOTH), name, exemplar=q == 0.99)
                for q, name in ((0.95, "p95"), (0.99, "p99"))
            ),
            unit=Unit.SECONDS,
        ),
        TimeSeries(
            "Queue wait",
            "From acceptance to the first step.",
            "When it bends upwards: the knee of the curve.",
            quantiles("tutti_queue_wait_seconds", BOTH),
            unit=Unit.SECONDS,
        ),
    ),
)

ENGINES = Row(
    "Where it breaks first",
    (
        TimeSeries(
            "Rows by state",
            "What the engines' rows do.",
            "No free rows and no growing goodput: more rows per step, or more replicas.",
            (Target(total("tutti_engine_rows", BY_MODEL, "state"), "{{state}}"),),
            unit=Unit.ROWS,
            stacked=True,
            width=8,
        ),
        TimeSeries(
            "Backlog by state",
            "Audio that waits and audio that is being made.",
            "Queued that grows in a straight line.",
            (Target(backlog(BOTH, "state"), "{{state}}"),),
            unit=Unit.AUDIO_SECONDS,
            stacked=True,
            width=8,
        ),
        TimeSeries(
            "Used capacity",
            "Audio made as a share of what engines could make.",
            "Above 85 %.",
            (Target(share(rate(MADE, BY_MODEL, "model"), total(CAPACITY, BY_MODEL, "model")), "{{model}}"),),
            unit=Unit.RATIO,
            thresholds=worse_above(0.85, 1),
            threshold_lines=True,
            width=8,
        ),
    ),
)

LOAD_TEST = Dashboard(
    "load-test",
    "Tutti: load test",
    "To look at while tutti bench serve runs: what goes in, what comes out, where it breaks first.",
    (ANSWER, LOAD, LATENCY, ENGINES),
    (MODEL, TIER),
    since="15m",
    refresh="5s",
)
