"""The whole platform on a virtual clock: gateway, fair queue, replicas that start and drain, and an autoscaler.

The queue (``autoscaling.fair_queue``) and the policy (``autoscaling.policy``) are the ones that serve; only time and
the replicas are made of arithmetic.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from autoscaling.arrivals import ArrivalMeter
from autoscaling.fair_queue import FairQueue
from autoscaling.fairness import Slots, TierRule, Waiting
from autoscaling.signals import DueWork, ModelSignals
from autoscaling.simulator.replica import Job, Profile, Replica, Stage
from autoscaling.simulator.workload import Request

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TierService:
    """What a tier is promised.

    Attributes:
        rule: for the queue.
        first_audio_s: within which a listener should hear something.
        deadline_c0_s, deadline_c1: a job is due ``c0 + c1 · audio_s`` seconds after it came.
        max_stream_wait_s, max_wait_s: refused at the door if it would wait longer, listened to or not.
    """

    rule: TierRule
    first_audio_s: float
    deadline_c0_s: float
    deadline_c1: float
    max_stream_wait_s: float
    max_wait_s: float

    def due_s(self, request: Request) -> float:
        """Seconds after its arrival at which it must be done, or heard."""
        if request.mode == "stream":
            return self.first_audio_s
        return self.deadline_c0_s + self.deadline_c1 * request.audio_s


class Autoscaler(Protocol):
    """Anything that says how many replicas each model should have."""

    tick_s: float

    def decide(self, signals: Mapping[str, ModelSignals], now: float) -> Mapping[str, int]: ...


@dataclass(slots=True)
class Model:
    """One model size: its line and its replicas."""

    profile: Profile
    queue: FairQueue
    meter: ArrivalMeter = field(default_factory=ArrivalMeter)
    replicas: list[Replica] = field(default_factory=list)
    waiting: dict[str, Request] = field(default_factory=dict)
    free: list[tuple[int, int, Replica]] = field(default_factory=list)
    """A heap of ready replicas by jobs; entries that are no longer true are thrown away when they come up."""
    ready: int = 0
    room: int = 0
    """Streams that the ready replicas could still take."""
    read: tuple[float, float] = (0.0, 0.0)
    """When the ready replicas were last asked what they have left, and the audio-seconds that they said."""
    admitted_s: float = 0.0
    """Audio-seconds that they have admitted since."""

    def of_stage(self, stage: Stage) -> list[Replica]:
        return [replica for replica in self.replicas if replica.stage is stage]

    def owed_s(self, now: float) -> float:
        """Audio-seconds that the ready replicas have left: read at the last tick, and reckoned on from there."""
        read_at, audio_s = self.read
        made_s = self.ready * self.profile.capacity * (now - read_at)
        return max(0.0, audio_s + self.admitted_s - made_s)


@dataclass(slots=True)
class Outcome:
    """What became of the requests, and what it cost.

    Attributes:
        jobs: admitted ones, in the order of their admission.
        refused: at the door.
        replica_s: model → seconds that replicas existed, starting and draining included.
        gpu_s: the same times their shares of a GPU.
        starts: of replicas.
        samples: (time, model → replicas that exist), at every tick.
    """

    jobs: list[Job] = field(default_factory=list)
    refused: list[Request] = field(default_factory=list)
    replica_s: dict[str, float] = field(default_factory=dict)
    gpu_s: float = 0.0
    starts: int = 0
    samples: list[tuple[float, dict[str, int]]] = field(default_factory=list)


class Cluster:
    """
    Args:
        profiles: model → its replicas' arithmetic.
        tiers: tier → what it is promised.
        initial: model → replicas that are ready at the beginning.
    """

    def __init__(
        self,
        profiles: Mapping[str, Profile],
        tiers: Mapping[str, TierService],
        autoscaler: Autoscaler,
        initial: Mapping[str, int] | None = None,
    ) -> None:
        self._tiers = dict(tiers)
        rules = {name: tier.rule for name, tier in tiers.items()}
        self._models = {name: Model(profile, FairQueue(rules)) for name, profile in profiles.items()}
        self._autoscaler = autoscaler
        self._events: list[tuple[float, int, str, Replica | None, int]] = []
        self._seq = itertools.count()
        self._names: dict[int, str] = {}
        self.outcome = Outcome(replica_s=dict.fromkeys(profiles, 0.0))
        for name, number in (initial or {}).items():
            for _ in range(number):
                self._start(name, 0.0, ready_s=0.0)

    def run(self, requests: Iterable[Request], until_s: float) -> Outcome:
        """Serve them all; the autoscaler goes on until ``until_s`` (seconds), what is admitted then until it is done.

        Raises:
            ValueError: the requests do not come in the order of their arrival.
        """
        arrivals = iter(requests)
        request = next(arrivals, None)
        self._schedule(0.0, "")
        now = 0.0
        while self._events or request is not None:
            if request is not None and (not self._events or request.arrival_s <= self._events[0][0]):
                if request.arrival_s < now:
                    raise ValueError(f"request {request.id} arrives at {request.arrival_s}, after one at {now}")
                now = request.arrival_s
                self._arrive(request, now)
                request = next(arrivals, None)
                continue
            now, _, model, replica, version = heapq.heappop(self._events)
            if replica is None:
                self._tick(now, until_s)
            elif replica.stage is Stage.STARTING:
                self._ready(model, replica, now)
            elif replica.version == version and replica.stage is not Stage.GONE:
                self._happen(model, replica, now)
        self._close(now)
        return self.outcome

    # ------------------------------------------------------------------------------- events
    def _schedule(self, at: float, model: str, replica: Replica | None = None) -> None:
        heapq.heappush(self._events, (at, next(self._seq), model, replica, replica.version if replica else 0))

    def _arrive(self, request: Request, now: float) -> None:
        model, tier = self._models[request.model], self._tiers[request.tier]
        model.meter.add(now, request.audio_s)
        limit_s = tier.max_stream_wait_s if request.mode == "stream" else tier.max_wait_s
        if self._wait_s(model, request.tier, now) > limit_s:
            self.outcome.refused.append(request)
            return
        due = _EPOCH + timedelta(seconds=now + tier.due_s(request))
        waiting = Waiting(f"{request.id:09d}", 1, request.audio_s, request.mode, due)
        model.waiting[waiting.generation_id] = request
        model.queue.push(request.tenant, request.tier, waiting)
        self._dispatch(request.model, now)

    def _wait_s(self, model: Model, tier: str, now: float) -> float:
        """How long it would wait: what is to be made before it, over what makes it, replicas that start included."""
        if model.room > len(model.queue):
            return 0.0
        mine = self._tiers[tier].rule.share
        ahead_s = sum(
            model.queue.waiting_audio_s(name) for name, each in self._tiers.items() if each.rule.share >= mine
        )
        ahead_s += model.owed_s(now)
        capacity = model.profile.capacity
        starting = sorted(replica.ready_s - now for replica in model.of_stage(Stage.STARTING))
        if not model.ready and not starting:
            return model.profile.cold_start_s  # it will be asked for at the next tick
        at, serving = 0.0, model.ready
        for eta_s in starting:
            if serving and at + ahead_s / (serving * capacity) <= eta_s:
                break
            ahead_s -= serving * capacity * (eta_s - at)
            at, serving = eta_s, serving + 1
        return at + max(0.0, ahead_s) / (serving * capacity)

    def _dispatch(self, name: str, now: float) -> None:
        model = self._models[name]
        while len(model.queue):
            replica = self._emptiest(model)
            if replica is None:
                return
            chosen = model.queue.pop(Slots(model.ready * model.profile.streams, model.room))
            if chosen is None:
                return
            job = Job(model.waiting.pop(chosen[1].generation_id), now)
            self.outcome.jobs.append(job)
            replica.admit(job, now)
            model.room -= 1
            model.admitted_s += job.request.audio_s
            self._await(name, replica)

    def _emptiest(self, model: Model) -> Replica | None:
        """The ready replica with the fewest jobs, if it has room: there a request is done soonest."""
        while model.free:
            jobs, _, replica = model.free[0]
            if replica.stage is Stage.READY and replica.jobs == jobs and jobs < model.profile.streams:
                return replica
            heapq.heappop(model.free)
        return None

    def _await(self, name: str, replica: Replica) -> None:
        """Its next event, and its place among the free ones."""
        at = replica.next_s()
        if at is not None:
            self._schedule(at, name, replica)
        if replica.stage is Stage.READY and replica.jobs < replica.profile.streams:
            heapq.heappush(self._models[name].free, (replica.jobs, next(self._seq), replica))

    def _happen(self, name: str, replica: Replica, now: float) -> None:
        model = self._models[name]
        for job in replica.happen(now):
            model.queue.finished(job.request.tenant)
            model.room += replica.stage is Stage.READY
        if replica.stage is Stage.DRAINING and not replica.jobs:
            self._stop(name, replica, now)
            return
        self._await(name, replica)
        self._dispatch(name, now)

    # ----------------------------------------------------------------------------- replicas
    def _tick(self, now: float, until_s: float) -> None:
        signals = {name: self._signals(model, now) for name, model in self._models.items()}
        for name, wanted in self._autoscaler.decide(signals, now).items():
            self._scale(name, wanted, now)
        self.outcome.samples.append((now, {name: len(model.replicas) for name, model in self._models.items()}))
        busy = any(len(model.queue) for model in self._models.values())
        if now + self._autoscaler.tick_s <= until_s or busy:
            self._schedule(now + self._autoscaler.tick_s, "")

    def _signals(self, model: Model, now: float) -> ModelSignals:
        dues: dict[int, float] = {}
        for request in model.waiting.values():
            due_s = max(0.0, request.arrival_s + self._tiers[request.tier].due_s(request) - now)
            dues[round(due_s)] = dues.get(round(due_s), 0.0) + request.audio_s
        ready = model.of_stage(Stage.READY)
        model.read, model.admitted_s = (now, sum(replica.left_audio_s(now) for replica in ready)), 0.0
        return ModelSignals(
            len(ready),
            tuple(replica.ready_s - now for replica in model.of_stage(Stage.STARTING)),
            sum(replica.jobs for replica in ready),
            model.read[1],
            len(model.queue),
            tuple(DueWork(audio_s, float(due_s)) for due_s, audio_s in dues.items()),
            model.meter.read(now),
        )

    def _scale(self, name: str, wanted: int, now: float) -> None:
        model = self._models[name]
        active = [replica for replica in model.replicas if replica.stage in {Stage.STARTING, Stage.READY}]
        for _ in range(wanted - len(active)):
            self._start(name, now, ready_s=now + model.profile.cold_start_s)
        # Those that do not serve yet go first, then the emptiest, which are gone soonest.
        active.sort(key=lambda replica: (replica.stage is Stage.READY, replica.jobs, -replica.ready_s))
        for replica in active[: max(0, len(active) - wanted)]:
            if replica.stage is Stage.READY:
                model.ready -= 1
                model.room -= replica.profile.streams - replica.jobs
            if replica.jobs:
                replica.stage = Stage.DRAINING
            else:
                self._stop(name, replica, now)

    def _start(self, name: str, now: float, *, ready_s: float) -> None:
        replica = Replica(self._models[name].profile, now, ready_s)
        self._models[name].replicas.append(replica)
        self.outcome.starts += ready_s > now
        self._schedule(ready_s, name, replica)

    def _ready(self, name: str, replica: Replica, now: float) -> None:
        replica.stage = Stage.READY
        self._models[name].ready += 1
        self._models[name].room += replica.profile.streams
        self._await(name, replica)
        self._dispatch(name, now)

    def _stop(self, name: str, replica: Replica, now: float) -> None:
        replica.stage = Stage.GONE
        self._models[name].replicas.remove(replica)
        self.outcome.replica_s[name] += now - replica.asked_s
        self.outcome.gpu_s += (now - replica.asked_s) * replica.profile.gpu

    def _close(self, now: float) -> None:
        for name, model in self._models.items():
            for replica in list(model.replicas):
                self._stop(name, replica, now)
