"""A replica by arithmetic: all its streams advance at the same pace, which depends on how many they are."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from enum import Enum, auto

from autoscaling.policy import ModelPolicy
from autoscaling.simulator.workload import Request


@dataclass(frozen=True, slots=True)
class Profile:
    """How fast a replica of one model is.

    A step makes ``frame_s`` of audio of every stream and takes ``base_s + stream_s · streams`` seconds: what
    ``tutti bench engine`` measures with one stream and with several (``from_measured``).

    Attributes:
        streams: at once, at most.
        first_audio_s: seconds of audio that must have been made before a listener hears anything, the delay pattern and
            the codec's look-ahead included.
        overhead_s: seconds for which a request has its place without being in a step: text encoding, handing over.
        latency_s: seconds of a request before and after that: the gateway, the queue, the way back to the listener.
        beside_start: of their rate that replicas keep while another one of the size starts; below 1 on a machine whose
            cores they share with it.
        shared_rate: audio-seconds per second that all replicas of the size make together, at most: on one machine whose
            cores they share. Each is slowed alike.
        gpu: share of a GPU.
        cold_start_s: seconds from asking for a replica until it serves.
    """

    streams: int
    base_s: float
    stream_s: float
    first_audio_s: float = 0.32
    overhead_s: float = 0.02
    gpu: float = 1.0
    cold_start_s: float = 30.0
    frame_s: float = 0.02
    latency_s: float = 0.0
    beside_start: float = 1.0
    shared_rate: float = math.inf

    def __post_init__(self) -> None:
        if self.streams < 1 or self.base_s + self.stream_s <= 0 or min(self.base_s, self.stream_s) < 0:
            raise ValueError(f"a replica serves at least one stream and its steps take time, got {self}")
        if not self.shared_rate > 0:
            raise ValueError(f"replicas make something together, got {self.shared_rate:g} audio-seconds per second")
        if not 0 < self.beside_start <= 1:
            raise ValueError(
                f"beside a start replicas keep a part of their rate, above 0 to 1, got {self.beside_start:g}"
            )
        if not 0 <= self.gpu <= 1:
            raise ValueError(f"a replica takes a share of one GPU, from 0 to 1, got {self.gpu:g}")

    @classmethod
    def from_measured(cls, streams: int, one: float, many: float, many_streams: int, **others: float) -> Profile:
        """From two figures of a benchmark.

        Args:
            streams: to be served at once.
            one: audio-seconds per second of a single stream.
            many: the same in sum of ``many_streams`` streams side by side.

        Raises:
            ValueError: several streams make less in sum than one, or fewer than two were measured.
        """
        if many_streams < 2 or many < one:
            raise ValueError(f"{many_streams} streams making {many} audio-s/s beside {one} of one fit no replica")
        one_s, many_s = 0.02 / one, 0.02 * many_streams / many
        stream_s = max(0.0, (many_s - one_s) / (many_streams - 1))
        return cls(streams, max(0.0, one_s - stream_s), stream_s, **others)

    def rate(self, streams: int) -> float:
        """Audio-seconds per second of each of so many streams."""
        return self.frame_s / (self.base_s + self.stream_s * streams)

    @property
    def capacity(self) -> float:
        """Audio-seconds per second in sum, when full."""
        return self.streams * self.rate(self.streams)

    def together(self, replicas: int) -> float:
        """The same of so many full replicas."""
        return min(replicas * self.capacity, self.shared_rate)


def settings_of(profile: Profile, most: int, warm_floor: int = 1) -> ModelPolicy:
    """The one configuration of "demand", for such replicas.

    Args:
        most: replicas.
        warm_floor: that are kept whatever happens.
    """
    rate = profile.rate(profile.streams)
    return ModelPolicy(profile.streams, rate, profile.cold_start_s, warm_floor=warm_floor, max_replicas=most)


class Stage(Enum):
    STARTING = auto()
    READY = auto()
    DRAINING = auto()
    GONE = auto()


@dataclass(slots=True)
class Job:
    """A request in a replica: when it was admitted, heard, done, or left by its client (seconds)."""

    request: Request
    admitted_s: float
    heard_s: float | None = None
    done_s: float | None = None
    left_s: float | None = None


class Replica:
    """Processor sharing in virtual time: ``progress`` is what a stream that was there from the beginning would have
    made, so each job is due at a fixed progress and nothing is touched when the pace changes."""

    __slots__ = (
        "_due", "_seq", "_updated_s", "asked_s", "gpu", "jobs", "place", "profile", "progress", "ready_s", "speed",
        "stage", "version",
    )  # fmt: skip

    def __init__(self, profile: Profile, asked_s: float, ready_s: float, gpu: int = -1) -> None:
        self.profile = profile
        self.gpu = gpu  # which it stands on
        self.place = 0  # among those with as many jobs
        self.asked_s = asked_s
        self.ready_s = ready_s
        self.stage = Stage.STARTING
        self.jobs = 0
        self.progress = 0.0
        self.speed = 1.0
        self.version = 0
        self._updated_s = ready_s
        self._due: list[tuple[float, int, bool, Job]] = []
        self._seq = 0

    def advance(self, now: float) -> None:
        if self.jobs:
            self.progress += (now - self._updated_s) * self.speed * self.profile.rate(self.jobs)
        self._updated_s = now

    def admit(self, job: Job, now: float) -> float:
        """One more; returns what it adds to the work, in audio-seconds."""
        self.advance(now)
        lead = self.profile.overhead_s * self.profile.rate(self.jobs + 1)
        first = min(self.profile.first_audio_s, job.request.audio_s)
        for is_end, audio_s in ((False, first), (True, job.request.audio_s)):
            self._seq += 1
            heapq.heappush(self._due, (self.progress + lead + audio_s, self._seq, is_end, job))
        self.jobs += 1
        self.version += 1
        return lead + job.request.audio_s

    def slow(self, speed: float, now: float) -> None:
        """From now on all of it goes at this part of its rate."""
        self.advance(now)
        self.speed = speed
        self.version += 1

    def next_s(self) -> float | None:
        """When something happens next, if nobody joins before; None: nothing will."""
        if not self._due:
            return None
        wait = max(0.0, self._due[0][0] - self.progress) / (self.speed * self.profile.rate(self.jobs))
        return self._updated_s + wait

    def happen(self, now: float) -> list[Job]:
        """Everything that is due: first audio is noted, and the jobs that are done are returned."""
        self.advance(now)
        done = []
        while self._due and self._due[0][0] <= self.progress + 1e-9:
            _, _, is_end, job = heapq.heappop(self._due)
            if is_end:
                job.done_s = now + self.profile.latency_s
                self.jobs -= 1
                done.append(job)
            else:
                job.heard_s = now + self.profile.latency_s
        self.version += 1
        return done

    def leave(self, job: Job, now: float) -> float:
        """Its client has left; returns the audio-seconds that are not made."""
        self.advance(now)
        job.left_s = now
        left_s = next(due - self.progress for due, _, is_end, each in self._due if is_end and each is job)
        self._due = [each for each in self._due if each[3] is not job]
        heapq.heapify(self._due)
        self.jobs -= 1
        self.version += 1
        return left_s

    def left_audio_s(self, now: float) -> float:
        """Audio-seconds that its jobs have left."""
        self.advance(now)
        return sum(due - self.progress for due, _, is_end, _ in self._due if is_end)
