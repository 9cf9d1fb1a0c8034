"""Serving arrivals in real time: who heard the first sound when, who got all, and who was still waiting at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.workload import Arrival


@dataclass(frozen=True, slots=True)
class Served:
    """One run of an open loop. Times count from each arrival; None is never, until the run was ended.

    Attributes:
        waited_s: how long each one was there at most: from its arrival to the end of the run, 0 for who never came.
    """

    first_audio_s: tuple[float | None, ...]
    finished_s: tuple[float | None, ...]
    waited_s: tuple[float, ...]
    wall_s: float

    @property
    def finished_share(self) -> float:
        return sum(each is not None for each in self.finished_s) / len(self.finished_s)

    def first_audio_quantile(self, share: float) -> float:
        """Seconds; whoever heard nothing counts with the time that it waited in vain, which is too little."""
        return _quantile(self.first_audio_s, self.waited_s, share)

    def finished_quantile(self, share: float) -> float:
        """Seconds until all of a track was there; whoever got it not counts with the time that it waited in vain."""
        return _quantile(self.finished_s, self.waited_s, share)


class Server(Protocol):
    """Serves arrivals in an open loop."""

    def serve(self, arrivals: Sequence[Arrival], limit_s: float) -> Served: ...


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def now_s(self) -> float:
        return time.perf_counter() - self._start

    def wait_until(self, at_s: float) -> None:
        """Sleep, if that is still to come."""
        time.sleep(max(0.0, at_s - self.now_s))


class Log:
    """Takes down what happens to each arrival, in seconds of the run."""

    def __init__(self, arrivals: Sequence[Arrival]) -> None:
        self._at_s = [arrival.at_s for arrival in arrivals]
        self._first_s: list[float | None] = [None] * len(arrivals)
        self._finished_s: list[float | None] = [None] * len(arrivals)

    def heard(self, index: int, now_s: float) -> None:
        """This one has got a piece of audio; the first counts."""
        if self._first_s[index] is None:
            self._first_s[index] = now_s - self._at_s[index]

    def finished(self, index: int, now_s: float) -> None:
        """This one has got all."""
        self.heard(index, now_s)
        self._finished_s[index] = now_s - self._at_s[index]

    def served(self, now_s: float) -> Served:
        """The run has ended."""
        waited_s = tuple(max(0.0, now_s - at_s) for at_s in self._at_s)
        return Served(tuple(self._first_s), tuple(self._finished_s), waited_s, now_s)


def _quantile(values: Sequence[float | None], at_least: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all are not above (nearest rank)."""
    known = sorted(floor if value is None else value for value, floor in zip(values, at_least, strict=True))
    return known[max(0, math.ceil(share * len(known)) - 1)]
