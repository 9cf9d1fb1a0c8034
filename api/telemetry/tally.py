"""Good and bad events of one process by slots of five minutes, on their way into SQL.

Each row of ``slo_events`` belongs to one process, which writes the slot's whole count again and again: a write whose
answer was lost does no harm when it is repeated, and nobody waits for anybody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

SLOT: Final = timedelta(minutes=5)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Key = tuple[datetime, str, str]


@dataclass(slots=True)
class Count:
    good: int = 0
    bad: int = 0


class Tally:
    """
    Args:
        clock: now, in UTC.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._counts: dict[Key, Count] = {}
        self._changed: set[Key] = set()

    def count(self, sli: str, tier: str, *, good: bool) -> None:
        """One event, now."""
        key = (slot_of(self._clock()), sli, tier)
        count = self._counts.setdefault(key, Count())
        if good:
            count.good += 1
        else:
            count.bad += 1
        self._changed.add(key)

    def take(self) -> dict[Key, Count]:
        """What has changed since it was written last, in full. Say ``written`` afterwards."""
        taken = {key: Count(self._counts[key].good, self._counts[key].bad) for key in self._changed}
        self._changed.clear()
        return taken

    def give_back(self, taken: dict[Key, Count]) -> None:
        """It could not be written: take it again the next time."""
        self._changed.update(taken)

    def forget(self, before: datetime) -> None:
        """Drop slots that have been written and are over."""
        for key in [key for key in self._counts if key[0] + SLOT <= before and key not in self._changed]:
            del self._counts[key]


def slot_of(moment: datetime) -> datetime:
    """The beginning of its slot."""
    return moment - (moment - _EPOCH) % SLOT
