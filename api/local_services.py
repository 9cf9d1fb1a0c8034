"""What a platform on one machine needs before its first process starts: a folder, secrets, a schema, a cache."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from api.cache.client import Cache
from api.cache.embedded import CacheError, EmbeddedValkey
from api.settings import Settings
from api.store.database import migrate

_REDIS_URL = "TUTTI_REDIS_URL"


@contextmanager
def local_services(settings: Settings) -> Iterator[None]:
    """Prepare this machine, and inside the block tell every process that is started where the cache is.

    Makes the data folder and, in development, the secrets; brings the database to this version's schema; and without
    ``TUTTI_REDIS_URL`` runs a Valkey until the block ends.

    Raises:
        SettingsError, StoreError, CacheError, OSError: what is missing and what to do; nothing is left running.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    _ = settings.secrets
    asyncio.run(migrate(settings.database_url))
    if settings.redis_url is not None:
        asyncio.run(_require(settings.redis_url))
        yield
        return
    with _alone(settings.data_dir), EmbeddedValkey() as valkey:
        os.environ[_REDIS_URL] = valkey.url  # children read their settings from their environment
        try:
            yield
        finally:
            del os.environ[_REDIS_URL]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two platforms with a cache each would not hear of each other's streams.

    Raises:
        CacheError: another one uses this folder.
    """
    with (folder / "serve.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # given back by the kernel however this process ends
        except BlockingIOError:
            raise CacheError(
                f"another tutti serve uses {folder}: stop it, or give this one another TUTTI_DATA_DIR, or give both "
                "the same TUTTI_REDIS_URL"
            ) from None
        yield


async def _require(url: str) -> None:
    """The platform goes on when the cache dies, but an address that is wrong from the start is a mistake."""
    cache = Cache.connect(url)
    try:
        answer = await cache.check()
    finally:
        await cache.close()
    if answer is not True:
        raise CacheError(answer)
