"""When a model that sleeps will be awake, and which replicas start beside those that serve.

All replicas of a model may be away, and the first one takes a while to start; and while a crowd comes, those that were
asked for serve soon. The autoscaler says so in Valkey, about once a second, under two keys: processes of an earlier
version read the first one, and know no other form of it. Where it says nothing (there is none, it is of an earlier
version, or Valkey is away) every model counts as awake and nobody as starting.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from redis.exceptions import RedisError

from api.cache.client import Cache
from api.clock import Clock
from autoscaling.starting import Expected, expected, once_awake

KEPT_S: Final = 10
"""For so long what was said counts, if nothing more is."""
PATIENCE_S: Final = 0.5
"""For the answer: who asks holds a connection to the database, and a Valkey that hangs must not take all of them."""
_MAX_AGE: Final = timedelta(seconds=1)
_CACHE_ERRORS = (RedisError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Start:
    """Of one model.

    Attributes:
        in_s: seconds until a replica serves; 0: one does.
        since: when the first of those that serve began to, if that is known.
    """

    in_s: float = 0.0
    since: datetime | None = None

    def began(self, sent_at: datetime | None) -> datetime | None:
        """When work on what was sent then can have begun."""
        return sent_at if sent_at is None or self.since is None else max(sent_at, self.since)


AWAKE: Final = Start()


Due = Mapping[str, Sequence[tuple[float, int]]]


async def publish(cache: Cache, starts: Mapping[str, tuple[float, float | None]], due: Due | None = None) -> None:
    """Say it for all models.

    Args:
        starts: model → seconds until a replica serves, and since when one does, in seconds of the epoch.
        due: model → when its replicas that start should serve, in seconds of the epoch, and how many at a time.

    Raises:
        RedisError, OSError, TimeoutError: nobody hears it.
    """
    async with cache.redis.pipeline(transaction=False) as pipe:
        pipe.set(_key(cache), json.dumps(starts), ex=KEPT_S)
        pipe.set(_due_key(cache), json.dumps(due or {}), ex=KEPT_S)
        await pipe.execute()


class Starts:
    """As one process knows them."""

    def __init__(self, cache: Cache, clock: Clock) -> None:
        self._cache, self._clock = cache, clock
        self._known: Mapping[str, Start] = {}
        self._due: Due = {}
        self._asked_at: datetime | None = None

    def of(self, model_id: str) -> Start:
        """As it was heard last."""
        return self._known.get(model_id, AWAKE)

    def starting(self, model_id: str) -> Sequence[Expected]:
        """Its replicas that will serve beside those that do; of a model that sleeps, from when it is awake on."""
        starting = expected(self._due.get(model_id, ()), self._clock().timestamp())
        return once_awake(starting) if self.of(model_id).in_s > 0 else starting

    def served_s(self, model_id: str) -> float:
        """For how many seconds a replica has been there; 0: none is; infinite: for as long as anybody knows."""
        start = self.of(model_id)
        if start.in_s > 0:
            return 0.0
        return math.inf if start.since is None else (self._clock() - start.since).total_seconds()

    async def run(self) -> None:
        """Ask again and again, until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(_MAX_AGE.total_seconds())

    async def refresh(self) -> None:
        """Ask, at most once a second."""
        now = self._clock()
        if self._asked_at is not None and timedelta(0) <= now - self._asked_at < _MAX_AGE:
            return
        self._asked_at = now
        said, due = None, None
        with suppress(*_CACHE_ERRORS):
            async with asyncio.timeout(PATIENCE_S):
                said, due = await self._cache.redis.mget(_key(self._cache), _due_key(self._cache))
        # Only now: who does not ask meanwhile, as it was asked already, goes by what was heard last.
        self._known = {} if said is None else {name: _start(*each) for name, each in json.loads(said).items()}
        self._due = {} if due is None else json.loads(due)


def _start(in_s: float, since: float | None) -> Start:
    return Start(in_s, None if since is None else datetime.fromtimestamp(since, UTC))


def _key(cache: Cache) -> str:
    return cache.key("autoscaler", "starts")


def _due_key(cache: Cache) -> str:
    return cache.key("autoscaler", "starting")
