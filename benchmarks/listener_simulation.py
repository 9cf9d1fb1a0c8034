"""Listeners at an engine whose steps take a + b × rows: the real scheduler and the real chunk sizes on a virtual clock.

The players here are the service levels' own (the stall is the largest lateness) and know nothing of the
scheduler's. Plain Python; a minute of music for 16 listeners takes about a tenth of a second.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field

from models.engine.listener import Listener
from models.engine.pacing import Pacer
from models.engine.scheduler import Scheduler
from models.engine.sequence import Sequence
from models.engine.windows import windows_of
from models.engine_config import EngineConfig
from models.types import GenerationRequest, SamplingParams

FRAME_RATE = 50
DELAY = 3
LOOKAHEAD = 4
WINDOW, STRIDE = 1500, 900  # frames

StepTime = Callable[[int], float]
"""Seconds of a step of so many rows."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Somebody asks for music at a time, maybe to go on from so much; guided, as nearly all are: two rows."""

    at_s: float
    duration_s: float
    live: bool = True
    known_frames: int = 0


@dataclass(slots=True)
class Player:
    """What one listener hears: starts with its prebuffer, O(1) state per chunk.

    Attributes:
        first_audio_s: after the request.
        stall_s: the largest lateness of a chunk.
        received_s: music that was handed over.
        done_s: when the last chunk was there.
    """

    arrival: Arrival
    prebuffer_s: float
    first_audio_s: float | None = None
    stall_s: float = 0.0
    received_s: float = 0.0
    done_s: float | None = None
    _starts_s: float | None = None

    def receive(self, duration_s: float, at_s: float) -> None:
        if self.first_audio_s is None:
            self.first_audio_s = at_s - self.arrival.at_s
        if self._starts_s is not None:
            self.stall_s = max(self.stall_s, at_s - (self._starts_s + self.received_s))
        self.received_s += duration_s
        is_last = self.received_s >= self.arrival.duration_s - 1e-6
        if self._starts_s is None and (self.received_s >= self.prebuffer_s - 1e-6 or is_last):
            self._starts_s = at_s
        if is_last:
            self.done_s = at_s


@dataclass(slots=True)
class CountingPool:
    """KV positions for everybody: rows are what is scarce here."""

    free_positions: int = 10**9
    _count: int = 0

    def can_allocate(self, positions: SequenceOf[int]) -> bool:
        return True

    def allocate(self, positions: int) -> int:
        self._count += 1
        return self._count

    def free(self, handle: int) -> None:
        pass


@dataclass(slots=True)
class Simulation:
    """
    Args:
        step_time: of the machine.
        max_rows: rows that may be held.
        pauses: whether the scheduler may let rows pause.
        config: chunk sizes and prebuffer.
    """

    step_time: StepTime
    max_rows: int
    pauses: bool
    config: EngineConfig = field(default_factory=EngineConfig)
    steps: int = 0
    layouts: int = 0
    now_s: float = 0.0

    def run(self, arrivals: Iterable[Arrival]) -> list[Player]:
        """Until everybody has their music."""
        pacer = Pacer[int](FRAME_RATE) if self.pauses else None
        line = Scheduler[int](CountingPool(), max_rows=self.max_rows, max_queue=10**6, pacer=pacer)
        coming = sorted(arrivals, key=lambda arrival: arrival.at_s)
        players = [Player(arrival, self.config.prebuffer_s) for arrival in coming]
        composition, arrived = -1, 0
        while arrived < len(coming) or line.has_work:
            if not line.has_work:
                self.now_s = max(self.now_s, coming[arrived].at_s)
            while arrived < len(coming) and coming[arrived].at_s <= self.now_s:
                line.add(self._sequence(arrived, coming[arrived]))
                arrived += 1
            plan = line.schedule(self.now_s)
            self.steps, self.layouts = self.steps + 1, self.layouts + (plan.composition != composition)
            composition = plan.composition
            shares = dict(plan.filling)
            sampled = sum(each.num_rows for each in plan.running if each.is_sampling)
            self.now_s += self.step_time(sampled + plan.filled_rows)
            line.observe(plan, self.now_s)
            for each in plan.running:
                self._advance(line, each, shares.get(each), players[int(each.request_id)])
        return players

    def _sequence(self, index: int, arrival: Arrival) -> Sequence[int]:
        request = GenerationRequest(str(index), "a tune", arrival.duration_s, 0, SamplingParams(), live=arrival.live)
        frames = int(arrival.duration_s * FRAME_RATE)
        windows = windows_of(frames, arrival.known_frames, WINDOW, STRIDE)
        sequence = Sequence[int](request, frames, DELAY, windows=windows)
        sequence.fill_share = self.config.prefill_rows // sequence.num_rows
        if arrival.live:
            sequence.listener = Listener.arriving(self.config, FRAME_RATE, LOOKAHEAD, arrival.at_s)
        return sequence

    def _advance(self, line: Scheduler[int], each: Sequence[int], filled: int | None, player: Player) -> None:
        complete = each.frames_after(each.step + 1)
        each.advance(filled)
        if each.listener is not None and (complete >= each.listener.codes_wanted or complete == each.frames):
            is_last = complete == each.frames
            frames = complete - each.listener.sent - (0 if is_last else LOOKAHEAD)
            each.listener.hand_over(frames, self.now_s, is_last=is_last)
            player.receive(frames / FRAME_RATE, self.now_s)
        if complete == each.frames:
            player.done_s = self.now_s
            line.remove(each.request_id)


def affine(level_s: float, row_s: float) -> StepTime:
    """A machine that takes so long for any step, and so much longer for each row."""
    return lambda rows: level_s + row_s * rows


def poisson(rate: float, until_s: float, durations_s: SequenceOf[float], seed: int) -> list[Arrival]:
    """Listeners who come independently of one another, ``rate`` per second, and want one of these lengths each."""
    chance, arrivals, at_s = random.Random(seed), [], 0.0
    while (at_s := at_s + chance.expovariate(rate)) < until_s:
        arrivals.append(Arrival(at_s, chance.choice(list(durations_s))))
    return arrivals
