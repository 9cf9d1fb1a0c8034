"""From what replicas, gateways and workers report to the signals of the policy "demand".

A generation is counted where it is: by the workers while it waits in the queue (from SQL, so every worker says the
same) and from when it was sent until its first audio came back (each worker its own); by the replica after that.
Reports travel about once a second. What they are called is in ``record_autoscaling_stats`` of the three deployments.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from autoscaling.arrivals import Arrivals
from autoscaling.signals import DueWork, ModelSignals
from autoscaling.starting import ANY_MOMENT_S
from deployments.demand_settings import ModelDemand

_NOTICED_S: Final = 2.0
"""Until a request that finds no replica has led to one being asked for: reports and decisions come once a second."""
_MOST_COLD_STARTS: Final = 3.0
"""Times the configured one: a start that had to wait for a machine says nothing about the next."""


class Readings:
    """What the replicas of one deployment reported last.

    Args:
        context: Serve's ``AutoscalingContext``; None: the deployment is not there.
        now: seconds, of the clock that the reports are stamped with.
    """

    def __init__(self, context: Any, now: float) -> None:
        self._last: dict[str, list[tuple[float, float]]] = {}  # metric → (age in seconds, value) of each replica
        reported = {} if context is None else context.raw_metrics
        for name, replicas in reported.items():
            self._last[name] = [
                (now - series[-1].timestamp, series[-1].value) for series in replicas.values() if series
            ]

    @property
    def age_s(self) -> float:
        """Of the oldest report; infinite if there is none."""
        return max((age for each in self._last.values() for age, _ in each), default=math.inf)

    def each(self, name: str) -> list[float]:
        return [value for _, value in self._last.get(name, [])]

    def total(self, name: str) -> float:
        return math.fsum(self.each(name))

    def newest(self, name: str, default: float = 0.0) -> float:
        """Of what all say alike."""
        return min(self._last.get(name, []), default=(0.0, default))[1]


@dataclass(slots=True)
class Starts:
    """When the replicas that do not serve yet were asked for: Serve says only how many.

    Attributes:
        measured_s: from asking for the last one that started until it served; None before.
    """

    measured_s: float | None = None
    _reported_s: float = 0.0
    _asked_at: list[float] = field(default_factory=list)
    _ready: int = 0

    def look(self, ready: int, target: int, now: float) -> bool:
        """Whether a start has ended, and is measured."""
        starting = max(0, target - ready)
        gone = max(0, len(self._asked_at) - starting)
        ended = bool(gone) and ready > self._ready
        if ended:
            self.measured_s = now - self._asked_at[0]
        self._asked_at = self._asked_at[gone:] + [now] * (starting - len(self._asked_at) + gone)
        self._ready = ready
        return ended

    def cold_start_s(self, configured_s: float, reported_s: float) -> float:
        """What to expect of the next start.

        Args:
            reported_s: what replicas took; Ray's choice of a place, and what its process waits for, come on top. 0: no
                replica is there to say so, and what the last ones said still counts.
        """
        self._reported_s = reported_s or self._reported_s
        least_s = max(configured_s, self._reported_s)
        return least_s if self.measured_s is None else min(self.measured_s, _MOST_COLD_STARTS * least_s)

    def due(self, cold_start_s: float) -> tuple[tuple[float, int], ...]:
        """When the replicas that start should serve, and how many at a time, the first ones first."""
        return tuple(sorted(Counter(round(asked_at + cold_start_s, 1) for asked_at in self._asked_at).items()))

    def due_in_s(self, cold_start_s: float, now: float) -> tuple[float, ...]:
        return tuple(max(0.0, asked_at + cold_start_s - now) for asked_at in self._asked_at)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the facts of all sizes come from."""

    gateways: Readings
    workers: Readings

    @property
    def age_s(self) -> float:
        """With the age of what the workers saw in the database."""
        return max(self.gateways.age_s, self.workers.age_s + self.workers.newest("looked_s_ago", math.inf))

    def arrivals(self, model: str) -> Arrivals:
        """Of all gateways together; each sees a part of the calls."""
        rates = self.gateways.each(f"{model}:long_s")
        return Arrivals(
            self.gateways.total(f"{model}:short_s"),
            self.gateways.total(f"{model}:medium_s"),
            math.fsum(rates),
            _weighted(self.gateways.each(f"{model}:dispersion"), rates, 1.0),
            _weighted(self.gateways.each(f"{model}:mean_audio_s"), rates, 0.0),
        )

    def waiting(self, model: str) -> tuple[DueWork, ...]:
        workers = self.workers
        works = (
            DueWork(workers.newest(f"{model}:stream_s") + workers.total(f"{model}:sent_stream_s"), 0.0),
            DueWork(workers.newest(f"{model}:job_s"), workers.newest(f"{model}:job_due_s")),
            DueWork(workers.total(f"{model}:sent_job_s"), workers.newest(f"{model}:sent_job_due_s")),
        )
        return tuple(work for work in works if work.audio_s != 0)


@dataclass(frozen=True, slots=True)
class Seen:
    """One size at one instant.

    Attributes:
        signals: as the policy sees it.
        capacity: what a replica makes, in audio-seconds per second; 0: not measured.
        cold_start_s: seconds that a cold start takes.
        serving: names of the replicas that serve.
        busy: how many of them have something to make.
        due: see ``Starts.due``.
    """

    signals: ModelSignals
    capacity: float
    cold_start_s: float
    serving: frozenset[str]
    busy: int
    due: tuple[tuple[float, int], ...] = ()

    @property
    def serves_in_s(self) -> float:
        """Seconds until a replica serves somebody who asks now; 0: one is there."""
        if self.signals.ready:
            return 0.0
        return max(ANY_MOMENT_S, min(self.signals.starting_in_s, default=self.cold_start_s + _NOTICED_S))


def read_model(model: str, context: Any, demand: ModelDemand, sources: Sources, starts: Starts, now: float) -> Seen:
    """One size, from what Serve knows and from what was reported."""
    replicas = Readings(context, now)
    cold_start_s = starts.cold_start_s(demand.cold_start_s, max(replicas.each("startup_s"), default=0.0))
    ready = int(context.current_num_replicas)
    measured = [value for value in replicas.each("capacity_audio_s_per_s") if value > 0]
    # A replica that has just started has not reported yet, and has nothing to report.
    age_s = max(sources.age_s, replicas.age_s if replicas.each("streams") else 0.0)
    signals = ModelSignals(
        ready=ready,
        starting_in_s=starts.due_in_s(cold_start_s, now),
        running=int(replicas.total("streams")),
        running_audio_s=replicas.total("running_audio_s"),
        queued=math.ceil(sources.workers.newest(f"{model}:queued")),
        waiting=sources.waiting(model),
        arrivals=sources.arrivals(model),
        # Clocks of two machines differ a little: what comes from the future is new.
        age_s=max(0.0, age_s),
    )
    return Seen(
        signals,
        math.fsum(measured) / len(measured) if measured else 0.0,
        cold_start_s,
        frozenset(str(each.unique_id) for each in context.running_replicas),
        sum(rows > 0 for rows in replicas.each("active_rows")),
        starts.due(cold_start_s),
    )


def _weighted(values: list[float], weights: list[float], default: float) -> float:
    total = math.fsum(weights)
    if total <= 0 or len(values) != len(weights):
        return default
    return math.fsum(value * weight for value, weight in zip(values, weights, strict=True)) / total


def state_of(decision: Any, seen: Seen, before: int | None) -> Mapping[str, Any]:
    """A decision and what it was made of, as plain numbers and words.

    Args:
        before: what was decided last. Serve itself starts a first replica for who waits for one: by the time of the
            decision it is on its way, and what was decided is up all the same.
    """
    signals, action = seen.signals, decision.action
    if before is not None and before != decision.replicas:
        action = "up" if decision.replicas > before else "down"
    return {
        "replicas": decision.replicas,
        "action": action,
        "reason": decision.reason,
        "components": {name: round(float(value), 3) for name, value in decision.components.items()},
        "ready": signals.ready,
        "starting": len(signals.starting_in_s),
        "cold_start_s": round(seen.cold_start_s, 1),
        "running_audio_s": round(signals.running_audio_s, 1),
        "waiting_audio_s": round(signals.waiting_audio_s, 1),
        "arriving_audio_s_per_s": round(signals.arrivals.medium_s, 3),
        "age_s": round(signals.age_s, 1) if math.isfinite(signals.age_s) else None,
    }
