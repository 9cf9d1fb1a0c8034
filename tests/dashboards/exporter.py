"""A platform that only tells metrics: a registry made from the catalogue, fed with load as time goes by.

What it tells is plausible and adds up: requests have outcomes, streams of lower tiers wait longer, enterprise misses
its first audio often enough for an alert. Whoever scrapes hears what has happened since the last time.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from api.telemetry.catalogue import CATALOGUE, Metric
from dashboards.panels.foreign import RAY

TIERS = {"enterprise": 0.25, "pro": 0.35, "free": 0.4}
MODELS = {"tiny": 0.7, "small": 0.3}
OUTCOMES = {
    "completed": 0.88, "cancelled": 0.05, "failed": 0.01, "timeout": 0.01, "rejected_capacity": 0.03,
    "rejected_rate_limit": 0.015, "rejected_invalid": 0.005,
}  # fmt: skip
NODE = {"ip": "10.0.0.1", "SessionName": "session", "IsHeadNode": "true"}
LATE = 0.3
"""Share of enterprise's streams that begin too late: enough for a page."""


@dataclass(frozen=True)
class Request:
    """One that has ended."""

    model: str
    tier: str
    mode: str
    outcome: str
    audio_s: float


class Platform(Collector):
    """Feeds its registry whenever somebody scrapes it.

    Args:
        requests_per_s: how many end, on average.
    """

    def __init__(self, requests_per_s: float = 12.0, seed: int = 5) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)  # first, so that the others are fed when they are asked
        self._random = random.Random(seed)
        self._rate = requests_per_s
        self._began = self._fed = time.monotonic()
        self._metrics = {metric.name: self._made(metric) for metric in CATALOGUE}
        for name, labels in RAY.items():
            kind = Counter if name.endswith("_total") and not name.endswith("mem_total") else Gauge
            self._metrics[name] = kind(name.removesuffix("_total") if kind is Counter else name, name, labels,
                                       registry=self.registry)  # fmt: skip
        self.feed(60.0)  # enough of it that whatever is rare has been told before the first scrape

    def _made(self, metric: Metric) -> Counter | Gauge | Histogram:
        if metric.kind == "histogram":
            return Histogram(metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=self.registry)
        kind = Counter if metric.kind == "counter" else Gauge
        return kind(metric.name.removesuffix("_total"), metric.help, metric.labels, registry=self.registry)

    def collect(self) -> Iterator[Family]:
        """What has happened since the last scrape; no metric of its own."""
        now = time.monotonic()
        self.feed(now - self._fed)
        self._fed = now
        yield from ()

    def describe(self) -> Iterator[Family]:
        yield from ()

    def feed(self, seconds: float) -> None:
        """So many seconds of load. It swells and ebbs every five minutes."""
        swell = 1 + 0.5 * math.sin(math.tau * (time.monotonic() - self._began) / 300)
        for _ in range(max(1, round(self._rate * swell * seconds))):
            self._request()
        self._engine(seconds, swell)
        self._control(seconds, swell)
        self._ray(seconds, swell)

    # -------------------------------------------------------------------------------------- requests
    def _request(self) -> None:
        pick = self._pick
        request = Request(
            pick(MODELS), pick(TIERS), pick({"stream": 0.8, "async": 0.2}), pick(OUTCOMES),
            self._random.choice((5.0, 10.0, 15.0, 30.0)),
        )  # fmt: skip
        labels = {"model": request.model, "tier": request.tier, "mode": request.mode}
        self._count("tutti_requests_total", 1, **labels, outcome=request.outcome)
        rejected = request.outcome.startswith("rejected_")
        reason = request.outcome.removeprefix("rejected_") if rejected else "none"
        decision = "rejected" if rejected else "accepted"
        self._count("tutti_admission_decisions_total", 1, tier=request.tier, decision=decision, reason=reason)
        status = "429" if rejected else "503" if request.outcome == "failed" else "200"
        self._count("tutti_http_requests_total", 1, method="POST", route="/api/v1/generations", status=status)
        if request.outcome in ("rejected_rate_limit", "rejected_invalid"):
            return  # neither is eligible
        self._judge("admission", labels, good=not rejected)
        if not rejected:
            self._count("tutti_audio_requested_seconds_total", request.audio_s, **labels)
            self._served(request, labels)

    def _served(self, request: Request, labels: Mapping[str, str]) -> None:
        stream = {"model": request.model, "tier": request.tier}
        slow = {"enterprise": 1.0, "pro": 1.4, "free": 2.2}[request.tier]
        wait = self._random.lognormvariate(-3, 1) * slow**3
        self._observe("tutti_queue_wait_seconds", wait, **labels)
        if request.outcome != "cancelled":
            self._judge("success", labels, good=request.outcome == "completed")
        if request.outcome != "completed":
            self._count("tutti_audio_wasted_seconds_total", request.audio_s / 3, **labels)
            return
        factor = self._random.lognormvariate(-0.7, 0.25)
        self._observe("tutti_realtime_factor_ratio", factor, **labels)
        self._observe("tutti_request_duration_seconds", wait + request.audio_s * factor, **labels)
        self._count("tutti_audio_delivered_seconds_total", request.audio_s, **labels)
        self._judge("validity", labels, good=True)
        good = self._streamed(request, stream, labels, wait, slow) if request.mode == "stream" else True
        if request.mode == "async":
            slack = 30 + request.audio_s - wait - request.audio_s * factor
            self._observe("tutti_deadline_slack_seconds", slack, **stream)
            self._judge("deadline", labels, good=slack > 0)
        if good:
            self._count("tutti_audio_goodput_seconds_total", request.audio_s, **labels)

    def _streamed(
        self, request: Request, stream: Mapping[str, str], labels: Mapping[str, str], wait: float, slow: float
    ) -> bool:
        late = request.tier == "enterprise" and self._random.random() < LATE
        first = wait + self._random.lognormvariate(-1.1, 0.3) * slow + (1.0 if late else 0.0)
        self._observe("tutti_time_to_first_audio_seconds", first, **stream)
        slack = self._random.gauss(2.0, 0.9) / slow
        stall = max(0.0, -slack)
        self._observe("tutti_stream_min_slack_seconds", slack, **stream)
        self._observe("tutti_stream_stall_seconds", stall, **stream)
        self._count("tutti_stream_underruns_total", 1 if stall else 0, **stream)
        on_time = first <= {"enterprise": 1.0, "pro": 2.5, "free": 10.0}[request.tier]
        self._judge("ttfa", labels, good=on_time)
        self._judge("continuity", labels, good=stall < 0.25)
        return on_time and stall < 0.25

    def _judge(self, sli: str, labels: Mapping[str, str], *, good: bool) -> None:
        self._count("tutti_sli_events_total", 1, sli=sli, **labels, result="good" if good else "bad")

    # --------------------------------------------------------------------------------------- engines
    def _engine(self, seconds: float, swell: float) -> None:
        for model, share in MODELS.items():
            active = round(24 * share * swell)
            steps = 62 * seconds
            busy = min(0.95, 0.6 * swell) * seconds
            self._count("tutti_engine_steps_total", steps, model=model)
            self._count("tutti_engine_step_seconds_total", busy, model=model)
            self._count("tutti_engine_idle_seconds_total", seconds - busy, model=model)
            self._count("tutti_engine_row_steps_total", steps * active, model=model)
            self._count("tutti_engine_audio_generated_seconds_total", seconds * active * 1.24, model=model)
            for stage, part in {"text_encode": 0.04, "decode": 0.74, "codec": 0.16, "host": 0.06}.items():
                self._count("tutti_engine_stage_seconds_total", busy * part, model=model, stage=stage)
            for state, rows in {"active": active, "paused": 3, "free": max(0, 32 - active - 3)}.items():
                self._set("tutti_engine_rows", rows, model=model, state=state)
            self._set("tutti_engine_capacity_audio_seconds_per_second", 40, model=model)
            self._set("tutti_engine_kv_utilization_ratio", min(1.0, active / 34), model=model)
            for stage, took in {"process": 2.1, "import": 6.1, "decoder": 3.4}.items():
                self._set("tutti_replica_startup_seconds", took, model=model, stage=stage)
            self._of_tiers(model, share * swell)

    def _of_tiers(self, model: str, load: float) -> None:
        for tier, part in TIERS.items():
            self._set("tutti_active_streams", round(40 * load * part), model=model, tier=tier)
            for state, audio in {"queued": 60 * part, "running": 200 * part}.items():
                self._set("tutti_engine_backlog_audio_seconds", audio * load, model=model, tier=tier, state=state)
            for sli in ("ttfa", "continuity"):
                self._set("tutti_slo_info", 1, sli=sli, tier=tier, objective="0.99", threshold="1.0")
        for role in ("ingress", "worker", "engine", "controller"):
            self._set("tutti_build_info", 1, version="0.1.0", role=role)
        for kind in ("sse", "websocket"):
            self._set("tutti_listeners", 7, kind=kind)

    # ------------------------------------------------------------------------------ around the platform
    def _control(self, seconds: float, swell: float) -> None:
        for model in MODELS:
            for state, replicas in {"desired": round(2 * swell), "ready": 2, "starting": 1, "draining": 0}.items():
                self._set("tutti_autoscaler_replicas", replicas, model=model, state=state)
            demand = {"base": 1.2, "headroom": 0.4, "backlog": 0.9, "wish": 2, "held": 2}
            for component, part in demand.items():
                self._set("tutti_autoscaler_demand_replicas", part * swell, model=model, component=component)
            self._count("tutti_autoscaler_decisions_total", seconds / 10, model=model, action="up", reason="demand")
            self._count("tutti_autoscaler_decisions_total", seconds, model=model, action="hold", reason="stale")
            self._set("tutti_autoscaler_start_seconds", 14.0, model=model)
            self._count("tutti_autoscaler_starts_over_budget_total", seconds / 10, model=model)
            for state, part in {"busy": 0.6, "idle": 0.4}.items():
                self._count("tutti_gpu_seconds_total", 2 * part * seconds, model=model, state=state)

    def _ray(self, seconds: float, swell: float) -> None:
        fixed = {
            "ray_node_cpu_utilization": 52 * swell, "ray_node_mem_used": 9.4e9, "ray_node_mem_total": 16e9,
            "ray_node_disk_usage": 2.1e11, "ray_node_disk_free": 4.0e11, "ray_node_network_receive_speed": 2.1e5,
            "ray_node_network_send_speed": 2.6e6 * swell,
        }  # fmt: skip
        for name, value in fixed.items():
            self._set(name, value, **NODE)
        gpu = {**NODE, "GpuIndex": "0"}
        self._set("ray_node_gpus_utilization", 58 * swell, **gpu)
        self._set("ray_node_gram_used", 18_000, **gpu)
        self._set("ray_node_gram_available", 62_000, **gpu)
        self._set("ray_actors", 6, State="ALIVE", Name="Gateway")
        self._set("ray_object_store_memory", 4e7, Location="MMAP_SHM")
        for resource, state, value in (
            ("CPU", "USED", 3), ("CPU", "AVAILABLE", 5), ("object_store_memory", "AVAILABLE", 2e9),
        ):  # fmt: skip
            self._set("ray_resources", value, Name=resource, State=state)
        self._set("ray_serve_controller_control_loop_duration_s", 0.11, actor_id="a1")
        self._set("ray_serve_num_ongoing_http_requests", round(30 * swell), node_id="n1")
        http = {"application": "tutti", "route": "/api/v1", "method": "POST", "status_code": "200"}
        self._count("ray_serve_num_http_requests_total", self._rate * swell * seconds, **http)
        for deployment, replicas in {"Gateway": 1, "Worker": 1, "Generator:tiny": 2}.items():
            labels = {"application": "tutti", "deployment": deployment}
            self._set("ray_serve_deployment_replica_healthy", replicas, **labels)
            self._set("ray_serve_deployment_queued_queries", 1, **labels)
            self._set("ray_serve_replica_processing_queries", round(12 * swell), **labels)
            self._count("ray_serve_deployment_request_counter_total", self._rate * seconds, **labels)
            self._count("ray_serve_deployment_error_counter_total", self._rate * seconds / 500, **labels)
            self._count("ray_serve_deployment_replica_starts_total", seconds / 200, **labels)

    # ----------------------------------------------------------------------------------------- verbs
    def _pick(self, weights: Mapping[str, float]) -> str:
        return self._random.choices(list(weights), list(weights.values()))[0]

    def _count(self, name: str, amount: float, **labels: str) -> None:
        metric = self._metrics[name]
        assert isinstance(metric, Counter)
        metric.labels(**labels).inc(amount)

    def _set(self, name: str, value: float, **labels: str) -> None:
        metric = self._metrics[name]
        assert isinstance(metric, Gauge)
        metric.labels(**labels).set(value)

    def _observe(self, name: str, value: float, **labels: str) -> None:
        metric = self._metrics[name]
        assert isinstance(metric, Histogram)
        metric.labels(**labels).observe(value, {"trace_id": f"{self._random.getrandbits(128):032x}"})
