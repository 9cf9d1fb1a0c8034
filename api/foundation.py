"""What a gateway and a worker both stand on: settings, the clock, SQL, the cache, limits and stored audio.

Everything is built without I/O and connects at first use, so a process starts while its database is away, says so in
its health, and serves once it is back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Self

from api.cache.bus import Bus
from api.cache.client import Cache
from api.clock import Clock, utc_now
from api.limits import Limits
from api.settings import Settings, SettingsError
from api.storage.audio import AudioLibrary
from api.storage.objects import ObjectStore
from api.storage.vault import Vault
from api.store.database import Database


@dataclass(frozen=True, slots=True)
class Foundation:
    """The shared parts of one process."""

    settings: Settings
    clock: Clock
    db: Database
    cache: Cache
    bus: Bus
    limits: Limits
    objects: ObjectStore
    vault: Vault
    audio: AudioLibrary

    @classmethod
    def build(cls, settings: Settings, clock: Clock = utc_now) -> Self:
        """Compose the parts.

        Raises:
            SettingsError: no cache is configured: `tutti serve` sets one up, a cluster names its own.
        """
        if settings.redis_url is None:
            raise SettingsError("TUTTI_REDIS_URL is not set: start with `tutti serve`, or name your Valkey or Redis")
        db, cache = Database.connect(settings.database_url), Cache.connect(settings.redis_url)
        objects = ObjectStore.from_url(settings.storage_url)
        vault = Vault(db, settings.secrets.master_keys, clock)
        return cls(
            settings=settings,
            clock=clock,
            db=db,
            cache=cache,
            bus=Bus(cache),
            limits=Limits(settings, cache, clock),
            objects=objects,
            vault=vault,
            audio=AudioLibrary(objects, vault),
        )

    @asynccontextmanager
    async def closing(self) -> AsyncIterator[Self]:
        """Close every connection at the end, whatever else fails."""
        async with AsyncExitStack() as stack:
            for part in (self.db, self.cache, self.bus, self.limits):
                stack.push_async_callback(part.close)
            yield self
