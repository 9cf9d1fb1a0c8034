"""Sliding windows in Valkey: those who ask in the same moment are counted by one command.

A command costs a client written in Python more than it costs Valkey, and a burst of requests with a command each would
wait for connections until it looked as if Valkey were gone. So one command is under way at a time; whoever comes
meanwhile goes into the next.

The window is counted as most rate limiters do it: the hits of the fixed window that goes on, and those of the one
before it by the part of it that still lies within the last ``window_s`` seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from api.cache.client import Cache
from api.tasks import stop

PATIENCE_S = 0.5
"""As long as a count may take, measured in turns of the event loop: one that was held up by something else does not
make Valkey slow."""
MAX_BATCH: Final = 256
_TURNS: Final = 10
_CONNECTIONS: Final = 2  # the one that is used, and one for the moment in which another breaks

# KEYS: for each window its counter before and its counter now; ARGV: for each its limit and its length in seconds.
# Lifetimes tell the time: the counter of now lives for the rest of its window and once more as the one before.
_COUNT = """
local found = {}
for i = 1, #KEYS, 2 do
  local before, now = KEYS[i], KEYS[i + 1]
  local limit, window = tonumber(ARGV[i]), 1000 * tonumber(ARGV[i + 1])
  local left = redis.call('PTTL', now)
  if left > 0 and left < window then
    redis.call('RENAME', now, before)
    redis.call('SET', now, 0, 'PX', left + window)
  end
  local previous = tonumber(redis.call('GET', before) or 0)
  local sliding = math.max(0, redis.call('PTTL', before))
  local current = tonumber(redis.call('GET', now) or 0)
  local allowed = 0
  if math.floor(previous * sliding / window) + current < limit then
    allowed = 1
    current = current + 1
    if redis.call('INCR', now) == 1 and redis.call('PTTL', now) < 0 then
      redis.call('PEXPIRE', now, 2 * window)
    end
  end
  found[#found + 1] = {allowed, previous, sliding, current, math.max(0, redis.call('PTTL', now))}
end
return found
"""


class Window(NamedTuple):
    """One window after one hit.

    Attributes:
        previous: hits in the fixed window before this one, of which ``previous_ttl_s`` still slide by.
        current: hits in this one, which lives for ``current_ttl_s``: what is left of it, and once more as previous.
    """

    allowed: bool
    previous: int
    previous_ttl_s: float
    current: int
    current_ttl_s: float


class _Hit(NamedTuple):
    name: str
    limit: int
    window_s: int


@dataclass(slots=True)
class _Batch:
    """Hits that one command counts.

    Attributes:
        failures: of this process, up to the moment in which its first hit came.
    """

    failures: int
    hits: list[_Hit] = field(default_factory=list)
    counting: asyncio.Task[list[Window]] = field(init=False)


class SharedCounters:
    """The counters that all processes on one Valkey share. Connects at the first hit."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._redis = Redis(connection_pool=_own_pool(cache))
        self._turn = asyncio.Lock()
        self._open: _Batch | None = None
        self._batches: set[asyncio.Task[list[Window]]] = set()
        self._failures = 0

    async def hit(self, name: str, limit: int, window_s: int) -> Window:
        """Count one hit if it fits.

        Raises:
            RedisError, OSError: Valkey is gone, or too slow.
        """
        if self._open is None or len(self._open.hits) >= MAX_BATCH:
            self._open = self._begin()
        batch, place = self._open, len(self._open.hits)
        batch.hits.append(_Hit(name, limit, window_s))
        # A caller that goes away leaves the others' count alone.
        return (await asyncio.shield(batch.counting))[place]

    async def close(self) -> None:
        """Close the connections; may be called more than once."""
        await stop(*self._batches)
        await self._redis.connection_pool.disconnect()

    def _begin(self) -> _Batch:
        batch = _Batch(self._failures)
        batch.counting = asyncio.create_task(self._send(batch), name="rates")
        self._batches.add(batch.counting)
        batch.counting.add_done_callback(self._ended)
        return batch

    def _ended(self, counting: asyncio.Task[list[Window]]) -> None:
        self._batches.discard(counting)
        if not counting.cancelled():
            counting.exception()  # seen, though all who waited for it may have gone away

    async def _send(self, batch: _Batch) -> list[Window]:
        async with self._turn:
            if self._open is batch:
                self._open = None
            if batch.failures != self._failures:
                raise TimeoutError("the count before this one has failed")  # one of them waits in vain, not all in turn
            try:
                return await _patiently(self._count(batch.hits))
            except (RedisError, OSError):
                self._failures += 1
                raise

    async def _count(self, batch: list[_Hit]) -> list[Window]:
        keys: list[str] = []
        arguments: list[Any] = []
        for hit in batch:
            keys += (self._cache.key("rate", hit.name, age) for age in ("before", "now"))
            arguments += (hit.limit, hit.window_s)
        found = await cast(Awaitable[list[Any]], self._redis.eval(_COUNT, len(keys), *keys, *arguments))
        return [
            Window(bool(allowed), previous, sliding / 1000, current, left / 1000)
            for allowed, previous, sliding, current, left in found
        ]


async def _patiently(counting: Coroutine[Any, Any, list[Window]]) -> list[Window]:
    """
    Raises:
        TimeoutError: not done after as many turns of the event loop as ``PATIENCE_S`` has, however long each took.
    """
    task = asyncio.create_task(counting)
    try:
        for _ in range(_TURNS):
            done, _pending = await asyncio.wait({task}, timeout=PATIENCE_S / _TURNS)
            if done:
                return task.result()
    finally:
        if not task.done():
            await stop(task)
    raise TimeoutError(f"no answer within {PATIENCE_S:g} s")


def _own_pool(cache: Cache) -> BlockingConnectionPool:
    """Connections of its own: a limit must not wait behind streams, nor through the retries that suit those."""
    shared = cache.redis.connection_pool
    patience: dict[str, Any] = {
        "socket_connect_timeout": PATIENCE_S,
        "socket_timeout": None,  # the whole of a count has one timeout
        # Once, for a connection that died while it was idle.
        "retry": Retry(NoBackoff(), 1),
    }
    return BlockingConnectionPool(
        connection_class=shared.connection_class,
        max_connections=_CONNECTIONS,
        timeout=PATIENCE_S,
        **{**shared.connection_kwargs, **patience},
    )
