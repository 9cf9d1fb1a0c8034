"""The whole platform on a virtual clock: gateway, fair queue, replicas that start and drain, and an autoscaler.

The queue (``autoscaling.fair_queue``) and the policy (``autoscaling.policy``) are the ones that serve; only time and
the replicas are made of arithmetic.
"""

from __future__ import annotations

import gc
import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from autoscaling.signals import ModelSignals
from autoscaling.simulator.gpus import Gpus
from autoscaling.simulator.replica import Job, Profile, Replica, Stage
from autoscaling.simulator.replicas import Replicas
from autoscaling.simulator.size import Queue, Size
from autoscaling.simulator.tiers import TierService
from autoscaling.simulator.workload import Request


class Autoscaler(Protocol):
    """Anything that says how many replicas each model should have."""

    tick_s: float

    def decide(self, signals: Mapping[str, ModelSignals], now: float) -> Mapping[str, int]: ...


class Sample(NamedTuple):
    """At a tick: replicas that exist of each model, and GPUs that are held."""

    at_s: float
    replicas: Mapping[str, int]
    gpus: int


@dataclass(slots=True)
class Outcome:
    """What became of the requests, and what it cost.

    Attributes:
        jobs: admitted ones that came to a replica, in that order.
        refused: at the door.
        left: admitted ones whose client left while they waited.
        replica_s: model → seconds that replicas existed, starting and draining included.
        gpu_s: the same times their shares of a GPU.
        held_gpu_s: seconds that GPUs were held, whole ones, with a replica or several on each.
        most_gpus: that were held at once.
        starts: of replicas.
        samples: at every tick.
    """

    jobs: list[Job] = field(default_factory=list)
    refused: list[Request] = field(default_factory=list)
    left: list[Request] = field(default_factory=list)
    replica_s: dict[str, float] = field(default_factory=dict)
    gpu_s: float = 0.0
    held_gpu_s: float = 0.0
    most_gpus: int = 0
    starts: int = 0
    samples: list[Sample] = field(default_factory=list)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Nothing in a simulation refers to itself: looking for what does, among millions of requests, takes long."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class Cluster:
    """
    Args:
        profiles: model → its replicas' arithmetic.
        tiers: tier → what it is promised.
        initial: model → replicas that are ready at the beginning.
        knows_starts: the door hears of replicas that start; see ``autoscaling.simulator.door``.
        queue: makes each model's line, in the place of the fair one.

    Attributes:
        events: that have happened, for those who count the cost.
    """

    def __init__(
        self,
        profiles: Mapping[str, Profile],
        tiers: Mapping[str, TierService],
        autoscaler: Autoscaler,
        initial: Mapping[str, int] | None = None,
        *,
        knows_starts: bool = True,
        queue: Callable[[], Queue] | None = None,
    ) -> None:
        self._tiers = dict(tiers)
        self._gpus = Gpus()
        self._sizes = {
            name: Size(
                Replicas(profile, self._gpus), tiers, knows_starts=knows_starts, queue=queue() if queue else None
            )
            for name, profile in profiles.items()
        }
        self._autoscaler = autoscaler
        self._events: list[tuple[float, int, Size | None, Replica | Request | None, int]] = []
        self._impatient: dict[int, tuple[Job, Replica]] = {}  # those in replicas whose clients will leave
        self._seq = itertools.count()
        self.events = 0
        self.outcome = Outcome()
        for name, number in (initial or {}).items():
            for _ in range(number):
                self._start(self._sizes[name], 0.0, ready_s=0.0)

    def run(self, requests: Iterable[Request], until_s: float) -> Outcome:
        """Serve them all; the autoscaler goes on until ``until_s`` (seconds), what is admitted then until it is done.

        Raises:
            ValueError: the requests do not come in the order of their arrival.
        """
        with _uncollected():
            now = self._run(iter(requests), until_s)
        self._close(now)
        return self.outcome

    def _run(self, arrivals: Iterator[Request], until_s: float) -> float:
        request = next(arrivals, None)
        self._schedule(0.0)
        now = 0.0
        while self._events or request is not None:
            self.events += 1
            if request is not None and (not self._events or request.arrival_s <= self._events[0][0]):
                if request.arrival_s < now:
                    raise ValueError(f"request {request.id} arrives at {request.arrival_s}, after one at {now}")
                now = request.arrival_s
                self._arrive(request, now)
                request = next(arrivals, None)
                continue
            now, _, size, who, version = heapq.heappop(self._events)
            if size is None or who is None:
                self._tick(now, until_s)
            elif isinstance(who, Request):
                self._leave(size, who, now)
            elif who.stage is Stage.STARTING:
                self._await(size, size.replicas.serve())
                self._adjust(size, now)
                self._dispatch(size, now)
            elif who.version == version and who.stage is not Stage.GONE:
                self._happen(size, who, now)
        return now

    # ------------------------------------------------------------------------------- events
    def _schedule(self, at: float, size: Size | None = None, replica: Replica | None = None) -> None:
        heapq.heappush(self._events, (at, next(self._seq), size, replica, replica.version if replica else 0))

    def _arrive(self, request: Request, now: float) -> None:
        size = self._sizes[request.model]
        size.meter.add(now, request.audio_s)
        limit_s = self._tiers[request.tier].limit_s(request)
        if limit_s < math.inf and size.wait_s(request, now) > limit_s:
            self.outcome.refused.append(request)
            return
        size.arrive(request)
        if request.stays_s < math.inf:
            heapq.heappush(self._events, (now + request.stays_s, next(self._seq), size, request, 0))
        self._dispatch(size, now)

    def _leave(self, size: Size, request: Request, now: float) -> None:
        """What waits is cancelled, what is made is stopped, what is done stays."""
        if size.leave(request):
            self.outcome.left.append(request)
        elif request.id in self._impatient:
            job, replica = self._impatient.pop(request.id)
            size.stopped(job, size.replicas.leave(replica, job, now))
            if replica.stage is not Stage.GONE:
                self._await(size, replica)
        self._dispatch(size, now)

    def _dispatch(self, size: Size, now: float) -> None:
        while (job := size.next(now)) is not None:
            replica = size.replicas.emptiest()
            assert replica is not None, "one that has room"
            self.outcome.jobs.append(job)
            size.replicas.admit(replica, job, now)
            if job.request.stays_s < math.inf:
                self._impatient[job.request.id] = (job, replica)
            self._await(size, replica)
            self._adjust(size, now)

    def _await(self, size: Size, replica: Replica) -> None:
        """Its next event."""
        at = replica.next_s()
        if at is not None:
            self._schedule(at, size, replica)

    def _happen(self, size: Size, replica: Replica, now: float) -> None:
        done = size.replicas.happen(replica, now)
        for job in done:
            self._impatient.pop(job.request.id, None)
            size.done(job)
        if replica.stage is not Stage.GONE:
            self._await(size, replica)
        if done:
            self._adjust(size, now)
            self._dispatch(size, now)

    # ----------------------------------------------------------------------------- replicas
    def _tick(self, now: float, until_s: float) -> None:
        signals = {name: size.signals(now) for name, size in self._sizes.items()}
        for name, wanted in self._autoscaler.decide(signals, now).items():
            self._scale(self._sizes[name], wanted, now)
        for size in self._sizes.values():
            size.told(now)
        replicas = {name: len(size.replicas) for name, size in self._sizes.items()}
        self.outcome.samples.append(Sample(now, replicas, self._gpus.held))
        busy = any(size.waiting for size in self._sizes.values())
        if now + self._autoscaler.tick_s <= until_s or busy:
            self._schedule(now + self._autoscaler.tick_s)

    def _scale(self, size: Size, wanted: int, now: float) -> None:
        """Costs what changes."""
        for _ in range(wanted - size.replicas.planned):
            self._start(size, now, ready_s=now + size.replicas.profile.cold_start_s)
        for _ in range(size.replicas.planned - wanted):
            size.replicas.remove(now)
        self._adjust(size, now)

    def _adjust(self, size: Size, now: float) -> None:
        for replica in size.replicas.adjust(now):
            self._await(size, replica)

    def _start(self, size: Size, now: float, *, ready_s: float) -> None:
        self.outcome.starts += ready_s > now
        self._schedule(ready_s, size, size.replicas.start(now, ready_s))

    def _close(self, now: float) -> None:
        self._gpus.advance(now)
        for name, size in self._sizes.items():
            size.replicas.close(now)
            self.outcome.replica_s[name] = size.replicas.replica_s
            self.outcome.gpu_s += size.replicas.replica_s * size.replicas.profile.gpu
        self.outcome.held_gpu_s, self.outcome.most_gpus = self._gpus.gpu_s, self._gpus.most
