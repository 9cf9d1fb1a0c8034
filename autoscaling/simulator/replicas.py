"""All replicas of one size: those that start, serve and drain, and what they have left to do.

Every step costs the same however many they are: the emptiest is found by the number of its jobs, and what they owe in
sum is known by its pace, without asking each of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from autoscaling.simulator.gpus import Gpus
from autoscaling.simulator.replica import Job, Profile, Replica, Stage

_LOOKED_AT = 32
"""Of equally empty replicas, for the one whose GPU is nearest to being free."""


@dataclass(slots=True)
class _Asked:
    """Replicas that were asked for together."""

    ready_s: float
    count: int


class Replicas:
    """
    Attributes:
        ready: how many serve.
        running: their jobs.
        room: jobs that they could still take.
        replica_s: seconds that replicas existed, of those that are gone.
    """

    def __init__(self, profile: Profile, gpus: Gpus) -> None:
        self.profile = profile
        self.ready = self.running = self.room = 0
        self.replica_s = 0.0
        self._gpus = gpus
        self._starting: deque[Replica] = deque()
        self._asked: deque[_Asked] = deque()
        self._by_jobs: list[list[Replica]] = [[] for _ in range(profile.streams + 1)]
        self._draining: dict[Replica, None] = {}
        self._paces = [jobs * profile.rate(jobs) if jobs else 0.0 for jobs in range(profile.streams + 1)]
        self._pace = 0.0
        self._left_s = 0.0
        self._left_at = 0.0
        self._speed = 1.0

    def __len__(self) -> int:
        return self.planned + len(self._draining)

    @property
    def planned(self) -> int:
        """Those that serve or will."""
        return self.ready + len(self._starting)

    def starts(self, now: float) -> Iterator[tuple[float, int]]:
        """In how many seconds how many of those that start will serve; ascending."""
        return ((each.ready_s - now, each.count) for each in self._asked)

    def left_audio_s(self, now: float) -> float:
        """Audio-seconds that the ready ones have left."""
        if not self.running:
            self._left_s = self._pace = 0.0  # sums of many small numbers are rounded
        self._left_s = max(0.0, self._left_s - self._speed * self._pace * (now - self._left_at))
        self._left_at = now
        return self._left_s

    # ----------------------------------------------------------------------------- from beginning to end
    def start(self, now: float, ready_s: float) -> Replica:
        """Asked for; never to be ready before one that was asked for earlier."""
        replica = Replica(self.profile, now, ready_s, self._gpus.take(self.profile.gpu, now))
        self._starting.append(replica)
        if self._asked and self._asked[-1].ready_s == ready_s:
            self._asked[-1].count += 1
        else:
            self._asked.append(_Asked(ready_s, 1))
        return replica

    def serve(self) -> Replica:
        """The one that was asked for first is ready."""
        replica = self._starting.popleft()
        self._one_less(0)
        replica.stage, replica.speed = Stage.READY, self._speed
        self.ready += 1
        self.room += self.profile.streams
        self._put(replica)
        return replica

    def remove(self, now: float) -> None:
        """One that does not serve yet goes first, then the emptiest, which is gone soonest; what it has it finishes."""
        if self._starting:
            self._one_less(-1)
            self._end(self._starting.pop(), now)
            return
        replica = self._emptiest_of(next(each for each in self._by_jobs if each))
        self.left_audio_s(now)
        self._take(replica)
        self.ready -= 1
        self.running -= replica.jobs
        self.room -= self.profile.streams - replica.jobs
        self._pace -= self._paces[replica.jobs]
        if replica.jobs:
            self._left_s -= replica.left_audio_s(now)
            replica.stage = Stage.DRAINING
            self._draining[replica] = None
        else:
            self._end(replica, now)

    def close(self, now: float) -> None:
        """All of them are gone."""
        for replica in [*self._starting, *(each for some in self._by_jobs for each in some), *self._draining]:
            self._end(replica, now)

    def adjust(self, now: float) -> list[Replica]:
        """To whether one starts, and to what they share: those whose next event comes at another time now. Where
        replicas take nothing from each other there are none."""
        speed = self.profile.beside_start if self._starting else 1.0
        if self._pace > self.profile.shared_rate:
            speed *= self.profile.shared_rate / self._pace
        if speed == self._speed:
            return []
        self.left_audio_s(now)
        self._speed = speed
        serving = [*(each for equal in self._by_jobs for each in equal), *self._draining]
        for replica in serving:
            replica.slow(speed, now)
        return serving

    # -------------------------------------------------------------------------------------------- work
    def emptiest(self) -> Replica | None:
        """The ready replica with the fewest jobs, if it has room: there a request is done soonest."""
        return next((each[-1] for each in self._by_jobs[:-1] if each), None)

    def admit(self, replica: Replica, job: Job, now: float) -> None:
        """A job for a ready replica with room."""
        self.left_audio_s(now)
        self._take(replica)
        self._left_s += replica.admit(job, now)
        self._put(replica)
        self._count(replica.jobs - 1, replica.jobs)

    def happen(self, replica: Replica, now: float) -> list[Job]:
        """Whatever is due in it; the jobs that are done are returned, and it is gone if it was to go."""
        before = self._open(replica, now)
        done = replica.happen(now)
        self._settle(replica, before, now)
        return done

    def leave(self, replica: Replica, job: Job, now: float) -> float:
        """The job's client has left; returns the audio-seconds that are not made."""
        before = self._open(replica, now)
        left_s = replica.leave(job, now)
        if replica.stage is Stage.READY:
            self._left_s -= left_s
        self._settle(replica, before, now)
        return left_s

    # --------------------------------------------------------------------------------------- bookkeeping
    def _open(self, replica: Replica, now: float) -> int:
        """Its jobs are about to change; how many there are yet."""
        if replica.stage is Stage.READY:
            self.left_audio_s(now)
            self._take(replica)
        return replica.jobs

    def _settle(self, replica: Replica, before: int, now: float) -> None:
        """They have, from ``before``; it is gone if it was to go and none is left."""
        if replica.stage is Stage.READY:
            self._put(replica)
            self._count(before, replica.jobs)
        elif not replica.jobs:
            del self._draining[replica]
            self._end(replica, now)

    def _count(self, before: int, after: int) -> None:
        self.running += after - before
        self.room -= after - before
        self._pace += self._paces[after] - self._paces[before]

    def _emptiest_of(self, equal: list[Replica]) -> Replica:
        """As Serve takes away what stands on the least used node."""
        return min(equal[-_LOOKED_AT:], key=lambda replica: self._gpus.level(replica.gpu))

    def _one_less(self, index: int) -> None:
        self._asked[index].count -= 1
        if not self._asked[index].count:
            del self._asked[index]

    def _put(self, replica: Replica) -> None:
        equal = self._by_jobs[replica.jobs]
        replica.place = len(equal)
        equal.append(replica)

    def _take(self, replica: Replica) -> None:
        equal = self._by_jobs[replica.jobs]
        last = equal.pop()
        if last is not replica:
            equal[replica.place] = last
            last.place = replica.place

    def _end(self, replica: Replica, now: float) -> None:
        replica.stage = Stage.GONE
        self._gpus.give(replica.gpu, self.profile.gpu, now)
        self.replica_s += now - replica.asked_s
