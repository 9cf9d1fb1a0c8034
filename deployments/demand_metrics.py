"""What the policy "demand" sees and decides, as metrics: collected in Serve's controller, shown by a thread beside it.

The controller only adds up numbers under a lock. Everything that may wait or fail (a port, Valkey) happens in the
thread of ``api.telemetry.control``; the names of the metrics are in ``api.telemetry.catalogue``.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

EXPOSURE: Final = "api.telemetry.control"  # above this package, so it is named as text
ACTIONS: Final = ("up", "down", "hold")
REASONS: Final = ("demand", "backlog", "panic", "floor", "ceiling", "held", "stale", "gpus")
COMPONENTS: Final = ("base", "headroom", "backlog", "wish", "held")
_MOST_BETWEEN_S: Final = 10.0
"""Seconds between two looks: of a controller that was away for longer nobody knows what was there meanwhile."""

Values = dict[str, dict[tuple[str, ...], float]]
"""Metric → values of its labels → number."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The replicas of one model at one instant.

    Attributes:
        desired: as many as there shall be.
        ready: names of those that serve.
        busy: how many of them are making audio.
        starting: how many do not serve yet.
        serves_in_s: seconds until one serves; 0: one does.
        gpu_share: of a GPU, that each of them takes.
        due: when those that start should serve (seconds of the epoch), and how many at a time.
    """

    desired: int
    ready: frozenset[str]
    busy: int
    starting: int
    serves_in_s: float = 0.0
    gpu_share: float = 0.0
    due: Sequence[tuple[float, int]] = ()


@dataclass(slots=True)
class _Model:
    """What is remembered of one model.

    Attributes:
        gone: names of those that served and do so no more; until nothing is heard of them they end their streams.
        serving_since: seconds, of the policy's clock; None: none serves.
    """

    standing: Standing
    components: Mapping[str, float] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    serving_since: float | None = None
    draining: int = 0

    def counted(self) -> dict[str, int]:
        now = self.standing
        return {
            "desired": now.desired, "ready": len(now.ready), "starting": now.starting, "draining": self.draining,
        }  # fmt: skip

    def at_work(self) -> dict[str, int]:
        """Replicas by what their GPUs do."""
        ready = len(self.standing.ready)
        busy = min(self.standing.busy, ready)
        return {
            "busy": busy, "idle": ready - busy, "starting": self.standing.starting, "draining": self.draining,
        }  # fmt: skip


class DecisionMeter:
    """Written by the controller, read by another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[str, _Model] = {}
        self._grown: Values = {}
        self._start_s: dict[str, float] = {}
        self._looked_at: float | None = None

    def look(self, standings: Mapping[str, Standing], now: float) -> None:
        """All models as they are at ``now`` (seconds); until the next look they count as having been so."""
        with self._lock:
            self._spend(now)
            for name, standing in standings.items():
                model = self._models.setdefault(name, _Model(standing))
                model.gone = (model.gone | model.standing.ready) - standing.ready
                if not standing.ready:
                    model.serving_since = None
                elif model.serving_since is None:
                    model.serving_since = now
                model.standing = standing
            for name in self._models.keys() - standings.keys():
                self._models[name] = _Model(Standing(0, frozenset(), 0, 0))

    def decided(self, model: str, components: Mapping[str, float], action: str, reason: str, *, changed: bool) -> None:
        """
        Args:
            components: of the decision, in replicas.
            changed: it is another one than before, and counts.
        """
        with self._lock:
            if model in self._models:
                self._models[model].components = dict(components)
            if changed:
                self._add("tutti_autoscaler_decisions_total", (model, action, reason), 1.0)

    def started(self, model: str, took_s: float, *, over_budget: bool) -> None:
        """A replica serves that was not there, so many seconds after it was asked for."""
        with self._lock:
            self._start_s[model] = took_s
            if over_budget:
                self._add("tutti_autoscaler_starts_over_budget_total", (model,), 1.0)

    def heard_of(self, replicas: Collection[str]) -> None:
        """The replicas, of whatever model, that say that they are alive."""
        with self._lock:
            for model in self._models.values():
                model.gone.intersection_update(replicas)
                model.draining = len(model.gone)

    def read(self) -> tuple[Values, Values]:
        """What counters have grown by since the last call, and gauges as they are."""
        with self._lock:
            grown, self._grown = self._grown, {}
            gauges: Values = {"tutti_autoscaler_replicas": {}, "tutti_autoscaler_demand_replicas": {}}
            for name, model in self._models.items():
                for state, number in model.counted().items():
                    gauges["tutti_autoscaler_replicas"][name, state] = float(number)
                for component in COMPONENTS:
                    part = model.components.get(component, 0.0)
                    gauges["tutti_autoscaler_demand_replicas"][name, component] = part
            gauges["tutti_autoscaler_start_seconds"] = {(name,): took_s for name, took_s in self._start_s.items()}
        return grown, gauges

    def zeros(self) -> Values:
        """The counters' series that there may be, so that they are there before they count."""
        with self._lock:
            models = list(self._models)
        return {
            "tutti_autoscaler_decisions_total": dict.fromkeys(
                ((model, action, reason) for model in models for action in ACTIONS for reason in REASONS), 0.0
            ),
            "tutti_autoscaler_starts_over_budget_total": dict.fromkeys(((model,) for model in models), 0.0),
            "tutti_gpu_seconds_total": dict.fromkeys(
                ((model, state) for model in models for state in ("busy", "idle", "starting", "draining")), 0.0
            ),
        }

    def starts(self) -> dict[str, tuple[float, float | None]]:
        """Model → seconds until a replica serves (0: one does), and since when one does."""
        with self._lock:
            return {name: (each.standing.serves_in_s, each.serving_since) for name, each in self._models.items()}

    def due(self) -> dict[str, Sequence[tuple[float, int]]]:
        """Model → when its replicas that start should serve (seconds of the epoch), and how many at a time."""
        with self._lock:
            return {name: each.standing.due for name, each in self._models.items() if each.standing.due}

    def _spend(self, now: float) -> None:
        passed_s = 0.0 if self._looked_at is None else min(max(0.0, now - self._looked_at), _MOST_BETWEEN_S)
        self._looked_at = now
        for name, model in self._models.items():
            for state, number in model.at_work().items():
                self._add("tutti_gpu_seconds_total", (name, state), passed_s * number * model.standing.gpu_share)

    def _add(self, name: str, labels: tuple[str, ...], amount: float) -> None:
        series = self._grown.setdefault(name, {})
        series[labels] = series.get(labels, 0.0) + amount


@cache
def shown() -> DecisionMeter:
    """This process's one meter, with its metrics shown from now on: a policy that is made anew goes on counting.

    Raises:
        Exception: of whatever kind; nothing is shown then.
    """
    meter = DecisionMeter()
    exposure: Any = importlib.import_module(EXPOSURE).ControlExposure(meter)
    exposure.start()
    return meter
