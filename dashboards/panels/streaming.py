"""What a listener notices: how long until the music begins, and whether it stops in between."""

from __future__ import annotations

from dashboards.builder.look import Unit, worse_above, worse_below
from dashboards.builder.model import Dashboard, Heatmap, Row, Stat, Target, TimeSeries
from dashboards.objectives import load_objectives
from dashboards.panels.queries import (
    BOTH,
    MODEL,
    TIER,
    buckets,
    increase,
    mean,
    or_zero,
    quantile,
    quantiles,
    rate,
    share,
    total,
)

FIRST_AUDIO = "tutti_time_to_first_audio_seconds"
STREAM_MODE = f'{BOTH},mode="stream"'


def _thresholds(sli: str) -> str:
    """What slo.yaml promises, in words."""
    promised = load_objectives()
    return ", ".join(f"{promised.threshold(sli, tier):g} s for {tier}" for tier in promised.tiers)


def _good_share(sli: str) -> str:
    events = "tutti_sli_events_total"
    good = increase(events, f'{BOTH},sli="{sli}",result="good"')
    return share(good, increase(events, f'{BOTH},sli="{sli}"'))


ANSWER = Row(
    "Are we OK?",
    (
        Stat(
            "First audio in time",
            "Share of streams, over what is shown, whose first 0.25 s of music came within their tier's promise.",
            "Below 99 %.",
            (Target(_good_share("ttfa"), "in time"),),
            unit=Unit.RATIO,
            thresholds=worse_below(0.995, 0.99),
            sparkline=False,
            decimals=2,
            runbook="TuttiTimeToFirstAudioBudgetBurn",
        ),
        Stat(
            "Without a stall",
            "Share of streams, over what is shown, that a player with a small buffer would play without stopping for "
            "longer "
            "than the tier allows.",
            "Below 99 %.",
            (Target(_good_share("continuity"), "continuous"),),
            unit=Unit.RATIO,
            thresholds=worse_below(0.995, 0.99),
            sparkline=False,
            decimals=2,
            runbook="TuttiContinuityBudgetBurn",
        ),
        Stat(
            "Median first audio",
            "Half of all listeners hear music within this time.",
            "When it doubles: queues form, or steps have become slower.",
            (Target(quantile(0.5, FIRST_AUDIO, BOTH), "p50"),),
            unit=Unit.SECONDS,
            thresholds=worse_above(1, 2.5),
        ),
        Stat(
            "Underruns",
            "Streams per second whose player ran out of audio at least for a moment.",
            "More than a few in a hundred streams.",
            (Target(or_zero(rate("tutti_stream_underruns_total", BOTH)), "underruns"),),
            unit=Unit.PER_SECOND,
            thresholds=worse_above(0.05, 0.5),
        ),
        Stat(
            "Mean real-time factor",
            "Seconds of making per second of audio, on average; below 1 music is made faster than it is played.",
            "Above 0.8: the next listener will make streams stall.",
            (Target(mean("tutti_realtime_factor_ratio", BOTH), "mean"),),
            unit=Unit.TIMES,
            thresholds=worse_above(0.8, 1),
            decimals=2,
        ),
        Stat(
            "Streams now",
            "Streams being heard at this moment.",
            "When it falls to 0 at a time when people listen.",
            (Target(total("tutti_active_streams", BOTH), "streams"),),
            decimals=0,
        ),
    ),
)

BREACHING = Row(
    "When does the music begin?",
    (
        TimeSeries(
            "Time to first audio",
            "From the request to the first 0.25 s of audio handed over, of all streams. Diamonds are single requests: "
            "their "
            "trace opens with a click.",
            f"The 99th percentile above the tier's promise: {_thresholds('ttfa')}.",
            quantiles(FIRST_AUDIO, BOTH),
            unit=Unit.SECONDS,
        ),
        TimeSeries(
            "Time to first audio by tier",
            "The 99th percentile of each tier. With strict order between tiers the free one suffers first, on purpose.",
            "When enterprise rises together with free: priorities no longer help, capacity is missing.",
            (Target(quantile(0.99, FIRST_AUDIO, BOTH, "tier"), "{{tier}}", exemplar=True),),
            unit=Unit.SECONDS,
        ),
        Heatmap(
            "Distribution of the time to first audio",
            "How many streams began within which time: darker is more.",
            "A second band above the first: some replicas, or some requests, are slow.",
            (Target(buckets(FIRST_AUDIO, BOTH), "{{le}}", exemplar=True),),
            unit=Unit.SECONDS,
        ),
        TimeSeries(
            "Queue wait",
            "From admission to the first step of the decoder: what of the time to first audio is waiting.",
            "When it makes up most of the time to first audio: more capacity helps. If not: the step or the network "
            "is slow.",
            quantiles("tutti_queue_wait_seconds", BOTH),
            unit=Unit.SECONDS,
        ),
    ),
)

CONTINUITY = Row(
    "Does it go on?",
    (
        TimeSeries(
            "Stall by tier",
            "The longest silence a listener would have heard in a stream, 99th percentile.",
            f"Above the tier's promise: {_thresholds('continuity')}.",
            (Target(quantile(0.99, "tutti_stream_stall_seconds", BOTH, "tier"), "{{tier}}", exemplar=True),),
            unit=Unit.SECONDS,
            runbook="TuttiContinuityBudgetBurn",
        ),
        TimeSeries(
            "Smallest slack",
            "How much audio the listener still had in hand at the tightest moment: low percentiles warn before a "
            "stall.",
            "When the 5th percentile comes near 0: the next slower step is heard.",
            tuple(
                Target(quantile(q, "tutti_stream_min_slack_seconds", BOTH), name, exemplar=q == 0.05)
                for q, name in ((0.01, "p1"), (0.05, "p5"), (0.5, "p50"))
            ),
            unit=Unit.SECONDS,
            minimum=None,
        ),
        TimeSeries(
            "Real-time factor",
            "Seconds between the first step and the last chunk, per second of audio.",
            "The 95th percentile above 1: those listeners overtake their music.",
            quantiles("tutti_realtime_factor_ratio", BOTH),
            unit=Unit.TIMES,
            thresholds=worse_above(0.8, 1),
            threshold_lines=True,
        ),
        TimeSeries(
            "Underruns by tier",
            "Streams per second that ran dry at least once.",
            "Any that last for enterprise.",
            (Target(rate("tutti_stream_underruns_total", BOTH, "tier"), "{{tier}}"),),
            unit=Unit.PER_SECOND,
            stacked=True,
            empty="No stream has run dry",
        ),
    ),
)

DETAIL = Row(
    "Detail",
    (
        TimeSeries(
            "Duration of requests",
            "From the request to its last byte; a stream lasts about as long as its music.",
            "When the median changes and nobody asks for other lengths.",
            quantiles("tutti_request_duration_seconds", BOTH),
            unit=Unit.SECONDS,
        ),
        TimeSeries(
            "Slack of deadlines",
            "How long before its deadline a job was done; low percentiles are the late ones.",
            "When the 1st percentile falls below 0: jobs are late.",
            tuple(
                Target(quantile(q, "tutti_deadline_slack_seconds", BOTH), name, exemplar=q == 0.01)
                for q, name in ((0.01, "p1"), (0.1, "p10"), (0.5, "p50"))
            ),
            unit=Unit.SECONDS,
            minimum=None,
            runbook="TuttiDeadlineBudgetBurn",
        ),
        TimeSeries(
            "Outcome of streams",
            "Streams that ended, per second.",
            "Any failed or timeout. Cancelled are listeners who left: many of them may be a stall that no number "
            "shows.",
            (Target(rate("tutti_requests_total", STREAM_MODE, "outcome"), "{{outcome}}"),),
            unit=Unit.PER_SECOND,
            stacked=True,
            runbook="TuttiSuccessBudgetBurn",
        ),
        TimeSeries(
            "Wasted audio",
            "Seconds of audio per second that were made and never delivered: listeners who left, failures, retries.",
            "When it is more than a tenth of what is delivered.",
            (
                Target(rate("tutti_audio_delivered_seconds_total", BOTH), "delivered"),
                Target(rate("tutti_audio_wasted_seconds_total", BOTH), "wasted"),
            ),
            unit=Unit.AUDIO_SECONDS_PER_SECOND,
        ),
    ),
)

STREAMING = Dashboard(
    "streaming-quality",
    "Tutti: streaming quality",
    "When the music begins, and whether it goes on: what a listener notices.",
    (ANSWER, BREACHING, CONTINUITY, DETAIL),
    (MODEL, TIER),
)
