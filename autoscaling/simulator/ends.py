"""When those that run will have ended, as far as it could be told when they began."""

from __future__ import annotations

from bisect import bisect_left, insort

_PER_S = 10
"""Moments that are told apart: a question costs so many for each second that the longest one takes."""


class Ends:
    """Seconds until each of them ends, ascending; what should have ended already ends now."""

    def __init__(self) -> None:
        self._moments: list[int] = []
        self._counts: dict[int, int] = {}  # moment → how many end at it
        self._ends: dict[int, int] = {}  # who → its moment
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int, /) -> float:
        left = range(len(self))[index]
        for moment in self._moments:
            left -= self._counts[moment]
            if left < 0:
                return max(0.0, moment / _PER_S - self._now)
        raise AssertionError("as many as there are moments for")

    def advance(self, now: float) -> None:
        """It is later."""
        self._now = now

    def add(self, who: int, at: float) -> None:
        """This one ends then."""
        moment = self._ends[who] = round(at * _PER_S)
        if moment not in self._counts:
            insort(self._moments, moment)
        self._counts[moment] = self._counts.get(moment, 0) + 1

    def remove(self, who: int) -> None:
        """It has ended."""
        moment = self._ends.pop(who)
        self._counts[moment] -= 1
        if not self._counts[moment]:
            del self._counts[moment], self._moments[bisect_left(self._moments, moment)]
