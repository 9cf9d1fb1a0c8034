"""A small memory that forgets: how long a revoked credential may go on working elsewhere is bounded by it."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from api.clock import Clock

V = TypeVar("V")


class ExpiringCache(Generic[V]):
    """Values by name, each for a fixed time, the least recently stored dropped first when it is full.

    Args:
        ttl_s: seconds a value is kept.
        max_entries: how many.
    """

    def __init__(self, clock: Clock, ttl_s: float, max_entries: int) -> None:
        self._clock = clock
        self._ttl = timedelta(seconds=ttl_s)
        self._max_entries = max_entries
        self._entries: OrderedDict[str, tuple[datetime, V]] = OrderedDict()

    def get(self, name: str) -> V | None:
        entry = self._entries.get(name)
        if entry is None:
            return None
        stored_at, value = entry
        # A clock that was set back must not make an entry live longer.
        if timedelta() <= self._clock() - stored_at < self._ttl:
            return value
        del self._entries[name]
        return None

    def put(self, name: str, value: V) -> None:
        self._entries.pop(name, None)
        self._entries[name] = (self._clock(), value)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        self._entries.clear()
