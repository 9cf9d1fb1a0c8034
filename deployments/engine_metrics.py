"""What an engine has done, from its own statistics, about once a second: never per step, and not through Ray.

Ray's metrics leave every ten seconds and rebuild histograms at the middle of their buckets. Here each replica shows its
own registry, as gateways and workers do. The names of the metrics are in ``api.telemetry.catalogue``.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from ray import serve
from ray.serve.exceptions import RayServeException

from models.engine.stats import STAGES, EngineStats
from models.engine.step_times import StepTimes

EXPOSURE: Final = "api.telemetry.engine"  # above this package, so it is named as text
Values = dict[str, dict[str, float]]
_COUNTERS: Final = {
    "tutti_engine_steps_total": "steps",
    "tutti_engine_step_seconds_total": "step_seconds",
    "tutti_engine_row_steps_total": "row_steps",
    "tutti_engine_audio_generated_seconds_total": "audio_seconds",
}


class StartTimes:
    """What a replica's start takes, stage by stage, without a gap: the stages add up to the time since it was made.

    The first is "process": what came before, in seconds of the processor. Ray may have had the process in stock, so the
    clock on the wall would count how long nobody wanted it.

    Args:
        clock: seconds that never go back.
        spent: seconds of the processor that this process has used.
    """

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter, spent: Callable[[], float] = time.process_time
    ) -> None:
        self._clock = clock
        self._at = clock()
        self.stages: dict[str, float] = {"process": spent()}

    def done(self, stage: str) -> None:
        """What was done since the last stage ended was this one."""
        now = self._clock()
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self._at
        self._at = now

    @property
    def total_s(self) -> float:
        return sum(self.stages.values())


class EngineMeter:
    """Turns snapshots of an engine's statistics into increments and gauges.

    Args:
        stats: the newest snapshot; of an engine that has done nothing yet.
        startup: stage → seconds that the replica's start took.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        stats: Callable[[], EngineStats],
        startup: Mapping[str, float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stats = stats
        self._startup = dict(startup)
        self._clock = clock
        self._seen, self._seen_at = stats(), clock()
        self._kv_positions = self._seen.free_kv_positions  # an engine that has just started holds none
        self._times = StepTimes()

    def read(self) -> tuple[Values, Values]:
        """Increments of the counters since the last call, and the gauges: metric → second label → number."""
        before, seen, now = self._seen, self._stats(), self._clock()
        passed_s, self._seen, self._seen_at = now - self._seen_at, seen, now
        counters = {name: {"": _grown(before, seen, field)} for name, field in _COUNTERS.items()}
        counters["tutti_engine_stage_seconds_total"] = {stage: _grown(before, seen, stage) for stage in STAGES}
        in_steps_s = counters["tutti_engine_step_seconds_total"][""]
        counters["tutti_engine_idle_seconds_total"] = {"": max(0.0, passed_s - in_steps_s)}
        self._observe(counters)
        return counters, self._gauges(seen)

    @property
    def capacity(self) -> float:
        """Audio-seconds per second of the engine with all its rows, as of the last read; 0: not measured yet."""
        return self._capacity(self._seen)

    def _observe(self, counters: Values) -> None:
        steps = counters["tutti_engine_steps_total"][""]
        if steps:
            rows = counters["tutti_engine_row_steps_total"][""] / steps
            self._times.observe(round(rows), counters["tutti_engine_step_seconds_total"][""] / steps)

    def _gauges(self, seen: EngineStats) -> Values:
        held = 1 - seen.free_kv_positions / self._kv_positions if self._kv_positions else 0.0
        return {
            "tutti_engine_rows": {
                "active": float(seen.active_rows),
                "paused": float(seen.paused_rows),
                "free": float(seen.free_rows),
            },
            "tutti_engine_kv_utilization_ratio": {"": held},
            "tutti_engine_capacity_audio_seconds_per_second": {"": self._capacity(seen)},
            "tutti_replica_startup_seconds": self._startup,
        }

    def _capacity(self, seen: EngineStats) -> float:
        """With all rows in the step: what a row yields in a step, as measured (a guided track takes two), over the
        time of such a step, from the line fitted to the steps there were."""
        full_step_s = self._times.seconds(seen.max_rows)
        if not full_step_s or not seen.row_steps:
            return 0.0
        return seen.max_rows * seen.audio_seconds / seen.row_steps / full_step_s


def _grown(before: EngineStats, seen: EngineStats, field: str) -> float:
    grown: float = getattr(seen, field) - getattr(before, field)
    return grown


def expose(model_id: str, stats: Callable[[], EngineStats], startup: Mapping[str, float]) -> Any:
    """Begin to show an engine's metrics; call ``close`` of what is returned at the end."""
    exposure: Any = importlib.import_module(EXPOSURE).EngineExposure(
        model_id, EngineMeter(stats, startup).read, replica=_replica()
    )
    exposure.start()
    return exposure


def _replica() -> str | None:
    """As Serve's controller names it; None outside of Serve."""
    try:
        return str(serve.get_replica_context().replica_id.unique_id)
    except RayServeException:
        return None
