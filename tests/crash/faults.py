"""Faults at random, from a seed: processes killed, the cache flushed, while the clients go on."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.crash.cluster import Cluster

# How often each is chosen. A replica costs seconds of loading, so it dies less often than what comes back at once.
WEIGHTS = {"gateway": 2, "worker": 3, "replica": 2, "valkey": 3, "flush": 3, "proxy": 1}
_WAIT_FOR_PART_S = 150.0  # a replica imports torch and loads, on a machine where clients and everybody else work
_POLL_S = 0.1


@dataclass
class Saboteur:
    """Injects faults one after the other until it is told to stop.

    Attributes:
        gap_s: seconds between faults, shortest and longest.
        done: what was injected.
    """

    cluster: Cluster
    rng: random.Random
    gap_s: tuple[float, float] = (1.0, 4.0)
    kinds: Sequence[str] = tuple(WEIGHTS)
    done: Counter[str] = field(default_factory=Counter)

    async def run(self, count: int) -> None:
        """Inject ``count`` faults."""
        weights = [WEIGHTS[kind] for kind in self.kinds]
        while self.done.total() < count:
            await asyncio.sleep(self.rng.uniform(*self.gap_s))
            await self.inject(self.rng.choices(self.kinds, weights)[0])

    async def inject(self, kind: str) -> None:
        """One fault. A part that is dead already is waited for, so that every fault hits something that lives.

        Raises:
            TimeoutError: the part does not come back, which is itself a finding.
        """
        if kind == "flush":
            await self._flush()
        else:
            async with asyncio.timeout(_WAIT_FOR_PART_S):
                while self.cluster.kill(kind) is None:  # noqa: ASYNC110 - a process that starts tells nobody
                    await asyncio.sleep(_POLL_S)
        self.done[kind] += 1

    async def _flush(self) -> None:
        async with asyncio.timeout(_WAIT_FOR_PART_S):
            while True:
                redis = Redis.from_url(self.cluster.valkey.url)
                try:
                    await redis.flushall()
                except RedisError:
                    await asyncio.sleep(_POLL_S)
                else:
                    return
                finally:
                    await redis.aclose()
