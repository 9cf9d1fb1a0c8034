"""One model size in the simulation: its line and its replicas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from autoscaling.arrivals import ArrivalMeter
from autoscaling.fair_queue import FairQueue
from autoscaling.fairness import Slots, Waiting
from autoscaling.signals import DueWork, ModelSignals
from autoscaling.simulator.door import Door
from autoscaling.simulator.replica import Job
from autoscaling.simulator.replicas import Replicas
from autoscaling.simulator.tiers import TierService
from autoscaling.simulator.workload import Request

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class Queue(Protocol):
    """Who is next; as ``autoscaling.fair_queue.FairQueue`` says."""

    def __len__(self) -> int: ...

    def waiting_audio_s(self, tier: str) -> float: ...

    def push(self, account: str, tier: str, request: Waiting) -> None: ...

    def cancel(self, account: str, request: Waiting) -> None: ...

    def pop(self, slots: Slots) -> tuple[str, Waiting] | None: ...

    def finished(self, account: str) -> None: ...

    def refund(self, account: str, audio_s: float) -> None: ...


@dataclass(slots=True)
class _Due:
    audio_s: float = 0.0
    requests: int = 0


class Size:
    """Workers hand over as many as the ready replicas play at once; the rest waits in fair order.

    Args:
        knows_starts: see ``Door``.
        queue: in the place of the fair one.
    """

    def __init__(
        self,
        replicas: Replicas,
        tiers: Mapping[str, TierService],
        *,
        knows_starts: bool = True,
        queue: Queue | None = None,
    ) -> None:
        self.replicas = replicas
        rules = {name: tier.rule for name, tier in tiers.items()}
        self._door = Door(rules, replicas, knows_starts=knows_starts)
        self.queue = queue if queue is not None else FairQueue(rules)
        self.meter = ArrivalMeter()
        self._tiers = dict(tiers)
        self._requests: dict[str, Request] = {}
        self._dues: dict[int, _Due] = {}  # second at which it is due → what waits

    @property
    def waiting(self) -> int:
        return len(self.queue)

    def arrive(self, request: Request) -> None:
        """It waits from now on."""
        waiting = self._waiting(request)
        self._requests[waiting.generation_id] = request
        each = self._dues.setdefault(round(self._due_at(request)), _Due())
        each.audio_s += request.audio_s
        each.requests += 1
        self._door.waits(request)
        self.queue.push(request.tenant, request.tier, waiting)

    def next(self, now: float) -> Job | None:
        """Whoever goes to a replica with room now; None: nobody waits, or may have it."""
        if not len(self.queue) or self.replicas.room <= 0:
            return None
        chosen = self.queue.pop(Slots(self.replicas.ready * self.replicas.profile.streams, self.replicas.room))
        if chosen is None:
            return None
        request = self._requests.pop(chosen[1].generation_id)
        self._waits_no_longer(request)
        self._door.begins(request, now)
        return Job(request, now)

    def done(self, job: Job) -> None:
        self._door.ends(job.request)
        self.queue.finished(job.request.tenant)

    def leave(self, request: Request) -> bool:
        """Its client has left; False: it does not wait any more, so that it is a replica's, or done."""
        if self._requests.pop(_name(request), None) is None:
            return False
        self.queue.cancel(request.tenant, self._waiting(request))
        self._waits_no_longer(request)
        return True

    def stopped(self, job: Job, left_s: float) -> None:
        """Its client has left while it was made: what was not is given back, in audio-seconds."""
        self.done(job)
        self.queue.refund(job.request.tenant, min(left_s, job.request.audio_s))

    def _waits_no_longer(self, request: Request) -> None:
        second = round(self._due_at(request))
        due = self._dues[second]
        due.audio_s -= request.audio_s
        due.requests -= 1
        if not due.requests:
            del self._dues[second]
        self._door.waits_no_longer(request)

    def _waiting(self, request: Request) -> Waiting:
        due = _EPOCH + timedelta(seconds=self._due_at(request))
        return Waiting(_name(request), 1, request.audio_s, request.mode, due)

    def _due_at(self, request: Request) -> float:
        return request.arrival_s + self._tiers[request.tier].due_s(request)

    # ----------------------------------------------------------------------------------- what is known
    def wait_s(self, request: Request, now: float) -> float:
        """How long one more would wait, as the door says it."""
        return self._door.wait_s(request, now)

    def told(self, now: float) -> None:
        """The autoscaler has decided."""
        self._door.hear(now)

    def signals(self, now: float) -> ModelSignals:
        """What the policy is told. The cost is that of the seconds at which something is due, and of the replicas that
        start."""
        late_s = sum(due.audio_s for second, due in self._dues.items() if second <= now)
        dues = [DueWork(due.audio_s, second - now) for second, due in self._dues.items() if second > now]
        starting = tuple(eta_s for eta_s, count in self.replicas.starts(now) for _ in range(count))
        return ModelSignals(
            self.replicas.ready,
            starting,
            self.replicas.running,
            self.replicas.left_audio_s(now),
            self.waiting,
            (DueWork(late_s, 0.0), *dues) if late_s > 0 else tuple(dues),
            self.meter.read(now),
        )


def _name(request: Request) -> str:
    return f"{request.id:09d}"
