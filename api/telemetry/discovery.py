"""Where every replica's metrics are: each says so in Valkey, again and again, and is forgotten when it stops.

The list has the shape of Prometheus's HTTP service discovery. It lies in one sorted set, by the time of Valkey's own
clock at which an entry ends, so that the clocks of the machines do not matter.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from redis.exceptions import RedisError

from api.cache.client import Cache
from api.tasks import stop
from api.telemetry.exporter import Exporter
from api.telemetry.recorder import Role
from api.telemetry.registry import Registry

TTL_S: Final = 30
ANNOUNCE_EVERY_S: Final = 10.0
_CACHE_ERRORS = (RedisError, OSError, TimeoutError)

_ANNOUNCE = """
redis.call('ZADD', KEYS[1], tonumber(redis.call('TIME')[1]) + tonumber(ARGV[2]), ARGV[1])
redis.call('EXPIRE', KEYS[1], 3600)
"""
_LIST = """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. redis.call('TIME')[1])
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""


class MetricsWish(Protocol):
    """Any settings that say where metrics are shown."""

    @property
    def metrics_host(self) -> str: ...
    @property
    def metrics_token(self) -> str | None: ...


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """One replica's port.

    Attributes:
        address: host and port.
        replica: names the process.
    """

    role: Role
    replica: str
    address: str

    def as_http_sd(self) -> dict[str, Any]:
        """An entry of Prometheus's list."""
        return {"targets": [self.address], "labels": {"role": self.role, "replica": self.replica}}


class Targets:
    """The list. Its methods raise what the Redis client raises."""

    def __init__(self, cache: Cache) -> None:
        self._redis = cache.redis
        self._key = cache.key("telemetry", "targets")
        self._announce = cache.redis.register_script(_ANNOUNCE)
        self._list = cache.redis.register_script(_LIST)

    async def announce(self, target: Target, ttl_s: int = TTL_S) -> None:
        """It is there for the next ``ttl_s`` seconds."""
        await self._announce(keys=[self._key], args=[_member(target), ttl_s])

    async def withdraw(self, target: Target) -> None:
        await self._redis.zrem(self._key, _member(target))

    async def all(self) -> list[Target]:
        """Those that are there now, in order."""
        found = cast("list[bytes]", await self._list(keys=[self._key]))
        return sorted(Target(*json.loads(member)) for member in found)


@asynccontextmanager
async def exposed(
    registry: Registry, role: Role, replica: str, settings: MetricsWish, cache: Cache
) -> AsyncIterator[Target]:
    """Inside the block the registry is served and on the list; without Valkey it is served, and listed later."""
    exporter = Exporter(registry, settings.metrics_host, settings.metrics_token)
    exporter.start()
    targets, target = Targets(cache), Target(role, replica, exporter.address)
    announcing = asyncio.create_task(_announce_always(targets, target), name="announce metrics")
    try:
        yield target
    finally:
        await stop(announcing)
        exporter.close()
        with suppress(*_CACHE_ERRORS):  # the entry ends by itself
            await targets.withdraw(target)


async def _announce_always(targets: Targets, target: Target) -> None:
    while True:
        with suppress(*_CACHE_ERRORS):  # readiness tells of it
            await targets.announce(target)
        await asyncio.sleep(ANNOUNCE_EVERY_S)


def _member(target: Target) -> str:
    return json.dumps([target.role, target.replica, target.address])
