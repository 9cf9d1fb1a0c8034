"""What the engine does with its time: steps, rows, stages, memory."""

from __future__ import annotations

from dashboards.builder.look import Color, Unit, worse_above, worse_below
from dashboards.builder.model import BarGauge, Dashboard, Gauge, Row, Stat, Target, TimeSeries
from dashboards.panels.queries import BOTH, BY_MODEL, MODEL, TIER, backlog, rate, share, share_of_all, total

STEPS = "tutti_engine_steps_total"
BUSY = "tutti_engine_step_seconds_total"
IDLE = "tutti_engine_idle_seconds_total"
MADE = "tutti_engine_audio_generated_seconds_total"
STAGES = "tutti_engine_stage_seconds_total"
CAPACITY = "tutti_engine_capacity_audio_seconds_per_second"
ROWS = "tutti_engine_rows"


def busy_share(by: str = "") -> str:
    """Share of the engines' time that is in steps."""
    return share(rate(BUSY, BY_MODEL, by), f"({rate(BUSY, BY_MODEL, by)} + {rate(IDLE, BY_MODEL, by)})")


def rows_in_use(by: str = "") -> str:
    """Share of the rows that hold a track."""
    return share(total(ROWS, f'{BY_MODEL},state!="free"', by), total(ROWS, BY_MODEL, by))


ANSWER = Row(
    "Are we OK?",
    (
        Stat(
            "Audio made",
            "Seconds of audio that the engines make per second.",
            "When it falls while a backlog waits.",
            (Target(rate(MADE, BY_MODEL), "made"),),
            unit=Unit.AUDIO_SECONDS_PER_SECOND,
            decimals=1,
        ),
        Stat(
            "Of the capacity",
            "Audio made, as a share of what the engines can make with all rows in use.",
            "Above 85 %: waiting times grow steeply from there.",
            (Target(share(rate(MADE, BY_MODEL), total(CAPACITY, BY_MODEL)), "used"),),
            unit=Unit.RATIO,
            thresholds=worse_above(0.85, 1),
            decimals=0,
        ),
        Stat(
            "Time of a step",
            "Mean seconds of one batched step: one frame, 0.02 s of audio, for every row in it.",
            "When it is longer than 0.02 s: every stream falls behind.",
            (Target(share(rate(BUSY, BY_MODEL), rate(STEPS, BY_MODEL)), "step"),),
            unit=Unit.SECONDS,
            thresholds=worse_above(0.018, 0.02),
        ),
        Stat(
            "Rows per step",
            "How many rows share a step on average: more rows make more music with the same weights read.",
            "When it is low while requests wait: something else holds them back.",
            (Target(share(rate("tutti_engine_row_steps_total", BY_MODEL), rate(STEPS, BY_MODEL)), "rows"),),
            unit=Unit.ROWS,
            decimals=1,
        ),
        Stat(
            "Rows in use",
            "Share of the rows that hold a track.",
            "At 100 % for minutes: the next request waits.",
            (Target(rows_in_use(), "in use"),),
            unit=Unit.RATIO,
            thresholds=worse_above(0.85, 1),
            decimals=0,
        ),
        Stat(
            "KV positions",
            "Share of the attention cache that is held, in the fullest engine.",
            "Above 90 %: long requests wait for memory and not for rows.",
            (Target(f"max(tutti_engine_kv_utilization_ratio{{{BY_MODEL}}})", "held"),),
            unit=Unit.RATIO,
            thresholds=worse_above(0.8, 0.9),
            decimals=0,
        ),
    ),
)

STEP = Row(
    "Steps",
    (
        TimeSeries(
            "Time of a step by model",
            "Mean seconds of one step. It grows with the rows in it and, slowly, with the length of the tracks.",
            "A step upwards with the same rows: another process uses the machine, or its clock went down.",
            (Target(share(rate(BUSY, BY_MODEL, "model"), rate(STEPS, BY_MODEL, "model")), "{{model}}"),),
            unit=Unit.SECONDS,
            thresholds=worse_above(0.018, 0.02),
            threshold_lines=True,
        ),
        TimeSeries(
            "Where the time of steps goes",
            "Share of each stage in the time of steps: reading the prompt, the decoder, the codec, and the host "
            "between them.",
            "When host is more than a tenth: the processor keeps the accelerator waiting.",
            (Target(share_of_all(rate(STAGES, BY_MODEL, "stage"), rate(STAGES, BY_MODEL)), "{{stage}}"),),
            unit=Unit.RATIO,
            maximum=1,
            stacked=True,
        ),
        TimeSeries(
            "Steps per second",
            "Batched steps per second, all engines of a model together.",
            "When it falls and the rows per step do not grow.",
            (Target(rate(STEPS, BY_MODEL, "model"), "{{model}}"),),
            unit=Unit.PER_SECOND,
        ),
        TimeSeries(
            "Busy share",
            "Share of the time that engines are in a step; the rest they have nothing to do.",
            "Near 100 % with a backlog: capacity is missing. Low with a backlog: requests do not reach the engines.",
            (Target(busy_share("model"), "{{model}}"),),
            unit=Unit.RATIO,
            maximum=1,
        ),
    ),
)

ROWS_ROW = Row(
    "Rows and memory",
    (
        TimeSeries(
            "Rows by state",
            "Active rows are in the step, paused ones belong to listeners with enough in hand, free ones to nobody.",
            "No free rows while requests wait. Many paused: listeners are far ahead, and there is room for more of "
            "them.",
            (Target(total(ROWS, BY_MODEL, "state"), "{{state}}"),),
            unit=Unit.ROWS,
            stacked=True,
        ),
        TimeSeries(
            "KV positions held",
            "Share of each model's attention cache that tracks hold, in its fullest engine.",
            "Above 90 %.",
            (Target(f"max by (model) (tutti_engine_kv_utilization_ratio{{{BY_MODEL}}})", "{{model}}"),),
            unit=Unit.RATIO,
            thresholds=worse_above(0.8, 0.9),
            threshold_lines=True,
            maximum=1,
        ),
        Gauge(
            "Rows in use by model",
            "Share of each model's rows that hold a track now.",
            "One model at 100 % and others empty: replicas should be moved from one to the other.",
            (Target(rows_in_use("model"), "{{model}}"),),
            unit=Unit.RATIO,
            thresholds=worse_above(0.85, 0.999),
        ),
        BarGauge(
            "Seconds by stage",
            "Seconds per second spent in each stage, all engines together.",
            "When text_encode grows: many short requests, or a cache of prompts that no longer helps.",
            (Target(rate(STAGES, BY_MODEL, "stage"), "{{stage}}"),),
            unit=Unit.SECONDS,
            width=9,
        ),
        BarGauge(
            "Start of a replica",
            "Seconds that the newest start took, by stage, in the slowest replica.",
            "When it grows: the autoscaler has to begin earlier.",
            (Target(f"max by (model, stage) (tutti_replica_startup_seconds{{{BY_MODEL}}})", "{{model}}, {{stage}}"),),
            unit=Unit.SECONDS,
            width=9,
        ),
    ),
)

WORK = Row(
    "Capacity",
    (
        TimeSeries(
            "Audio made and capacity",
            "Seconds of audio per second, against what engines could make with all rows in use at the measured step "
            "times.",
            "When the two meet and the backlog grows.",
            (
                Target(rate(MADE, BY_MODEL, "model"), "{{model}}"),
                Target(total(CAPACITY, BY_MODEL, "model"), "{{model}}, capacity"),
            ),
            unit=Unit.AUDIO_SECONDS_PER_SECOND,
        ),
        TimeSeries(
            "Backlog by tier",
            "Seconds of audio that are accepted and not made yet.",
            "When enterprise waits at all, or the sum is more than a minute of capacity.",
            (
                Target(backlog(f'{BOTH},state="queued"', "tier"), "{{tier}}, queued"),
                Target(backlog(f'{BOTH},state="running"'), "running", color=Color.SOFT),
            ),
            unit=Unit.AUDIO_SECONDS,
            stacked=True,
        ),
        TimeSeries(
            "Speed of one row",
            "Seconds of audio per second that each row in use makes: above 1 a listener is never overtaken.",
            "Below 1.1.",
            (
                Target(
                    share(rate(MADE, BY_MODEL, "model"), total(ROWS, f'{BY_MODEL},state="active"', "model")),
                    "{{model}}",
                ),
            ),
            unit=Unit.TIMES,
            thresholds=worse_below(1.1, 1),
            width=24,
        ),
    ),
)

ENGINE = Dashboard(
    "engine",
    "Tutti: engine",
    "Steps, rows, stages and memory of the engines.",
    (ANSWER, STEP, ROWS_ROW, WORK),
    (MODEL, TIER),
)
