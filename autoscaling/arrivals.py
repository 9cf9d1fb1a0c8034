"""How much work arrives, over three windows, and how much more unevenly than by chance."""

from __future__ import annotations

import itertools
import math
from collections import deque
from dataclasses import dataclass

SHORT_S, MEDIUM_S, LONG_S = 20, 60, 600
_GROUP_S = 10
"""Seconds of one observation of the dispersion: about as long as a request is served, so that what a burst leaves in
the rows is seen and not what the next second smooths away."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What arrived.

    Attributes:
        short_s, medium_s, long_s: audio-seconds asked for per second, over the last 20, 60 and 600 seconds (or as long
            as there has been anything to see).
        dispersion: variance over mean of the number of requests in ten seconds, without the trend; 1 for Poisson
            arrivals, never below.
        mean_audio_s: audio-seconds of one request, over the long window; 0 before the first.
    """

    short_s: float = 0.0
    medium_s: float = 0.0
    long_s: float = 0.0
    dispersion: float = 1.0
    mean_audio_s: float = 0.0


class ArrivalMeter:
    """Counts arrivals in bins of a second, ten minutes of them, in O(1) per request."""

    def __init__(self, began_at: float = 0.0) -> None:
        self._began_at = began_at
        self._bins: deque[tuple[int, float, int]] = deque()  # second, audio-seconds, requests; only seconds with some
        self._total_s, self._count = 0.0, 0  # of them all

    def add(self, now: float, audio_s: float) -> None:
        """One request for ``audio_s`` seconds of audio arrived at ``now`` (seconds, never less than before)."""
        second = int(now)
        self._total_s, self._count = self._total_s + audio_s, self._count + 1
        if self._bins and self._bins[-1][0] >= second:
            _, total_s, count = self._bins.pop()
            self._bins.append((second, total_s + audio_s, count + 1))
        else:
            self._bins.append((second, audio_s, 1))

    def read(self, now: float) -> Arrivals:
        """The state at ``now``; forgets what is older than the long window."""
        while self._bins and self._bins[0][0] < now - LONG_S:
            _, audio_s, number = self._bins.popleft()
            self._total_s, self._count = self._total_s - audio_s, self._count - number
        if not self._bins:
            self._total_s = 0.0  # sums of many small numbers are rounded
        return Arrivals(
            self._rate(now, SHORT_S),
            self._rate(now, MEDIUM_S),
            self._total_s / self._seen_s(now, LONG_S),
            self._dispersion(now),
            self._total_s / self._count if self._count else 0.0,
        )

    def _seen_s(self, now: float, window_s: float) -> float:
        return min(window_s, max(1.0, now - self._began_at))

    def _rate(self, now: float, window_s: float) -> float:
        recent = 0.0
        for second, audio_s, _ in reversed(self._bins):
            if second < now - window_s:
                break
            recent += audio_s
        return recent / self._seen_s(now, window_s)

    def _dispersion(self, now: float) -> float:
        groups = int(min(LONG_S, now - self._began_at) // _GROUP_S)
        if groups < 3:
            return 1.0
        counts = [0] * groups
        first = math.floor(now) - groups * _GROUP_S
        for second, _, number in self._bins:
            if 0 <= second - first < groups * _GROUP_S:
                counts[(second - first) // _GROUP_S] += number
        mean = sum(counts) / groups
        if mean == 0:
            return 1.0
        # Half the mean square of successive differences (von Neumann, 1941): unlike variance it does not take a rate
        # that rises or falls, as by day and night, for unevenness.
        variance = sum((after - before) ** 2 for before, after in itertools.pairwise(counts)) / (2 * (groups - 1))
        return max(1.0, variance / mean)
