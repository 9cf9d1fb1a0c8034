"""Every metric of the platform: its name, type, labels, buckets and meaning. Plain data; registries are made from it.

Labels are closed: ``model`` is one of the served models (``unknown`` where a call was refused before it was read), all
others have the values listed here. No label holds a tenant or an id; nothing is counted per step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]
Plane = Literal["sli", "http", "engine", "control"]

TIERS: Final = ("free", "pro", "enterprise")
MODES: Final = ("stream", "async")
SLIS: Final = ("ttfa", "continuity", "success", "admission", "deadline", "validity")
OUTCOMES: Final = (
    "completed", "failed", "timeout", "cancelled", "rejected_capacity", "rejected_rate_limit", "rejected_invalid",
)  # fmt: skip
UNKNOWN_MODEL: Final = "unknown"

VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "tier": TIERS,
    "mode": MODES,
    "sli": SLIS,
    "result": ("good", "bad"),
    "outcome": OUTCOMES,
    "decision": ("accepted", "rejected"),
    "reason": ("none", "capacity", "rate_limit", "quota", "concurrency", "invalid", "error", "left"),
    "kind": ("sse", "websocket"),
}
"""Of labels that mean the same everywhere."""

_ADDENDS: Final = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


@dataclass(frozen=True, slots=True)
class Metric:
    """One family.

    Attributes:
        name: as queries name it; that of a counter ends in ``_total``.
        labels: in order.
        buckets: upper bounds of a histogram, in its unit, without infinity. Below zero: there is no ``_sum``.
        values: of labels that mean something else elsewhere.
        same_everywhere: every exporter tells the same of the whole platform: take the maximum over them, not the sum.
    """

    name: str
    kind: Kind
    plane: Plane
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    same_everywhere: bool = False

    @property
    def series(self) -> frozenset[str]:
        """The names that queries may use."""
        addends = [addend for addend in _ADDENDS[self.kind] if addend != "_sum" or self.buckets[0] >= 0]
        return frozenset(self.name + addend for addend in addends)

    def allowed(self, label: str) -> tuple[str, ...] | None:
        """The values that a label may have; None: the configuration or the routes bound them."""
        return self.values.get(label, VALUES.get(label))


_REQUEST: Final = ("model", "tier", "mode")
_STREAM: Final = ("model", "tier")
_FIRST_AUDIO: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10, 15, 30, 60)
_WAIT: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
_DURATION: Final = (0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1800, 3600)
_STALL: Final = (0, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SLACK: Final = (-5, -2, -1, -0.5, -0.25, -0.1, -0.05, 0, 0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30)
_DEADLINE: Final = (-600, -300, -120, -60, -30, -10, -5, -1, 0, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
_FACTOR: Final = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.25, 1.5, 2, 3, 5, 10)

SLI_PLANE: Final = (
    Metric(
        "tutti_sli_events_total", "counter", "sli",
        "Requests by whether they met each service level; decided once per request, at its end",
        ("sli", *_REQUEST, "result"),
    ),
    Metric(
        "tutti_requests_total", "counter", "sli",
        "Requests for music by how they ended; repetitions under the same Idempotency-Key are none",
        (*_REQUEST, "outcome"),
    ),
    Metric(
        "tutti_time_to_first_audio_seconds", "histogram", "sli",
        "Streams: from the request until 0.25 s of audio were handed to the server",
        _STREAM, _FIRST_AUDIO,
    ),
    Metric(
        "tutti_queue_wait_seconds", "histogram", "sli",
        "From acceptance until a worker first handed the generation to an engine; counted at its end",
        _REQUEST, _WAIT,
    ),
    Metric(
        "tutti_request_duration_seconds", "histogram", "sli",
        "Completed ones: from the request to the last byte (streams), from acceptance to the result (async)",
        _REQUEST, _DURATION,
    ),
    Metric(
        "tutti_stream_stall_seconds", "histogram", "sli",
        "Streams that began to play: seconds for which the virtual player stood still",
        _STREAM, _STALL,
    ),
    Metric(
        "tutti_stream_min_slack_seconds", "histogram", "sli",
        "Streams that began to play: the least that the virtual player had in hand; below 0 it stood still",
        _STREAM, _SLACK,
    ),
    Metric(
        "tutti_realtime_factor_ratio", "histogram", "sli",
        "Completed ones: seconds of work per second of music; below 1 is faster than it plays",
        _REQUEST, _FACTOR,
    ),
    Metric(
        "tutti_deadline_slack_seconds", "histogram", "sli",
        "Completed async jobs: seconds left until the deadline; below 0 it was missed",
        _STREAM, _DEADLINE,
    ),
    Metric("tutti_stream_underruns_total", "counter", "sli", "Times that a virtual player ran dry", _STREAM),
    Metric("tutti_audio_requested_seconds_total", "counter", "sli", "Seconds of audio of accepted requests", _REQUEST),
    Metric(
        "tutti_audio_delivered_seconds_total", "counter", "sli",
        "Seconds of audio handed to listeners of their own streams, or stored (async)", _REQUEST,
    ),
    Metric(
        "tutti_audio_goodput_seconds_total", "counter", "sli",
        "Seconds of audio of completed requests that met all their service levels", _REQUEST,
    ),
    Metric(
        "tutti_audio_wasted_seconds_total", "counter", "sli",
        "Seconds of audio made in attempts that came to no result", _REQUEST,
    ),
    Metric(
        "tutti_admission_decisions_total", "counter", "sli",
        "Calls for music by what was decided at the door, and why", ("tier", "decision", "reason"),
    ),
    Metric("tutti_active_streams", "gauge", "sli", "Audio streams that are being sent now", _STREAM),
    Metric(
        "tutti_slo_info", "gauge", "sli",
        "1; the objective (a ratio) and the threshold (seconds; empty: none) in force",
        ("sli", "tier", "objective", "threshold"),
        same_everywhere=True,
    ),
    Metric(
        "tutti_build_info", "gauge", "sli", "1; version and part of the platform", ("version", "role"),
        values={"role": ("ingress", "worker", "engine", "controller")},
    ),
)  # fmt: skip

HTTP_PLANE: Final = (
    Metric(
        "tutti_http_requests_total", "counter", "http",
        "Responses by route and status; 499 is a client that left before the response began",
        ("method", "route", "status"),
    ),
    Metric("tutti_listeners", "gauge", "http", "Open streams of events", ("kind",)),
)  # fmt: skip

_ENGINE: Final = ("model",)

ENGINE_PLANE: Final = (
    Metric("tutti_engine_steps_total", "counter", "engine", "Batched steps", _ENGINE),
    Metric("tutti_engine_step_seconds_total", "counter", "engine", "Seconds in steps", _ENGINE),
    Metric("tutti_engine_row_steps_total", "counter", "engine", "Rows, summed over the steps", _ENGINE),
    Metric("tutti_engine_audio_generated_seconds_total", "counter", "engine", "Seconds of audio made", _ENGINE),
    Metric("tutti_engine_idle_seconds_total", "counter", "engine", "Seconds outside of steps", _ENGINE),
    Metric(
        "tutti_engine_stage_seconds_total", "counter", "engine", "Seconds in steps, by stage; host is the rest",
        ("model", "stage"), values={"stage": ("text_encode", "decode", "codec", "host")},
    ),
    Metric(
        "tutti_engine_rows", "gauge", "engine", "Rows: in the step, held by tracks that pause, held by nobody",
        ("model", "state"), values={"state": ("active", "paused", "free")},
    ),
    Metric(
        "tutti_engine_backlog_audio_seconds", "gauge", "engine",
        "Seconds of audio accepted and not ended: waiting in the queue, or in a worker's hands. Told by every worker",
        ("model", "tier", "state"), values={"state": ("queued", "running")}, same_everywhere=True,
    ),
    Metric(
        "tutti_engine_capacity_audio_seconds_per_second", "gauge", "engine",
        "Seconds of audio per second with all rows in use, from the measured times of steps; 0 before any is known",
        _ENGINE,
    ),
    Metric("tutti_engine_kv_utilization_ratio", "gauge", "engine", "Share of the KV positions that is held", _ENGINE),
    Metric(
        "tutti_replica_startup_seconds", "gauge", "engine", "Seconds that the replica's start took",
        ("model", "stage"),
        values={
            "stage": ("process", "import", "checkpoint", "kernel", "map", "pack", "decoder", "codec", "text", "engine")
        },
    ),
)  # fmt: skip

CONTROL_PLANE: Final = (
    Metric(
        "tutti_autoscaler_replicas", "gauge", "control",
        "Replicas that there shall be, and that serve, start, or end their last streams (died less than 30 s ago: too)",
        ("model", "state"), values={"state": ("desired", "ready", "starting", "draining")},
    ),
    Metric(
        "tutti_autoscaler_demand_replicas", "gauge", "control",
        "What the last decision was made of, in replicas: wish is base and headroom, or backlog; held is kept so far",
        ("model", "component"), values={"component": ("base", "headroom", "backlog", "wish", "held")},
    ),
    Metric(
        "tutti_autoscaler_decisions_total", "counter", "control",
        "Decisions that the log tells of: the first, changes of the number, and signals that became stale or fresh",
        ("model", "action", "reason"),
        values={
            "action": ("up", "down", "hold"),
            "reason": ("demand", "backlog", "panic", "floor", "ceiling", "held", "stale", "gpus"),
        },
    ),
    Metric(
        "tutti_autoscaler_start_seconds", "gauge", "control",
        "Seconds from asking for a replica until it served, of the last one that started", ("model",),
    ),
    Metric(
        "tutti_autoscaler_starts_over_budget_total", "counter", "control",
        "Starts of a replica that took longer than its cold_start_s in serve_config.yaml", ("model",),
    ),
    Metric(
        "tutti_gpu_seconds_total", "counter", "control",
        "Seconds of GPUs that replicas held, by their share of one: while they made audio, waited, started, drained",
        ("model", "state"), values={"state": ("busy", "idle", "starting", "draining")},
    ),
)  # fmt: skip

CATALOGUE: Final = (*SLI_PLANE, *HTTP_PLANE, *ENGINE_PLANE, *CONTROL_PLANE)


def metric(name: str) -> Metric:
    """
    Raises:
        KeyError: there is none of that name.
    """
    return _BY_NAME[name]


_BY_NAME: Final = {each.name: each for each in CATALOGUE}
