"""The line outside: what was turned away and told to come back at a time that has not come yet.

Under overload the refused are part of the line, too. If each of them were told only how long those inside take, all
would come back at once, and be refused again. So each is told a time of its own, behind those that were told one
before; the longer an overload lasts, the later that is.

Counted by this process, for what it has refused itself, and as if all came back: who goes away is not known.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

MAX_LATER_S: Final = 600.0
"""Nobody is sent further away on account of the line outside alone: some of those in it will not come back.

Under a cap of a minute most callers of a long overload were told the same time, came back together and were refused."""


class ComingBack:
    """An amount of work (in steps, or in calls) by the second at which it is due.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: dict[int, float] = {}  # at most one entry a second for as far as anybody was sent away
        self._amount = 0.0

    @property
    def amount(self) -> float:
        """Of work that is not due yet."""
        now = self._clock()
        for second in [second for second in self._due if second <= now]:
            self._amount -= self._due.pop(second)
        return self._amount if self._due else 0.0

    @property
    def last_s(self) -> float:
        """Seconds until all of it is due."""
        return max(0.0, max(self._due, default=0) - self._clock())

    def add(self, amount: float, after_s: float) -> None:
        """So much was told to come back in so many seconds."""
        second = math.ceil(self._clock() + after_s)
        self._due[second] = self._due.get(second, 0.0) + amount
        self._amount += amount
