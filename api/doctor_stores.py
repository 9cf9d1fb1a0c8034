"""The doctor's checks of what the platform keeps things in: database, cache and object store. They make nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from api.cache.client import Cache
from api.cache.embedded import CacheError, find_server
from api.doctor import Finding, Status
from api.settings import Settings, SettingsError
from api.storage.errors import StorageError
from api.storage.objects import ObjectStore
from api.store import engines
from api.store.database import Database, check
from api.store.errors import StoreError

_WRITABLE = "give the user who runs tutti serve write access, or set TUTTI_DATA_DIR to another folder"


def check_database() -> Finding:
    """The database answers and has a schema that this version can work with or upgrade."""
    return _with_settings("database", _check_database)


def check_cache() -> Finding:
    """The cache that was named answers, or a Valkey can be started."""
    return _with_settings("cache", _check_cache)


def check_storage() -> Finding:
    """Audio can be written to the object store and read back."""
    return _with_settings("storage", _check_storage)


def _with_settings(name: str, look: Callable[[Settings], Finding]) -> Finding:
    try:
        return look(Settings())
    except SettingsError:
        return Finding(name, Status.FAIL, "not checked: the settings are wrong", "mend the settings first")


def _check_database(settings: Settings) -> Finding:
    try:
        file = engines.sqlite_file(engines.parse(settings.database_url))
    except StoreError as error:
        return Finding("database", Status.FAIL, str(error), "mend TUTTI_DATABASE_URL")
    if file is not None and not file.exists():
        return _not_yet("database", file)
    answer, url = asyncio.run(_ask_database(settings.database_url))
    if answer is True:
        return Finding("database", Status.OK, url)
    if "tutti db upgrade" in answer:
        return Finding(
            "database", Status.WARN, answer, "copy the data, then: tutti db upgrade (tutti serve does it too)"
        )
    return Finding("database", Status.FAIL, answer, "mend TUTTI_DATABASE_URL, or what it names")


async def _ask_database(url: str) -> tuple[Literal[True] | str, str]:
    database = Database.connect(url)
    try:
        return await check(database), database.url
    finally:
        await database.close()


def _check_cache(settings: Settings) -> Finding:
    if settings.redis_url is None:
        try:
            return Finding("cache", Status.OK, f"tutti serve will run {find_server()}")
        except CacheError as error:
            return Finding("cache", Status.FAIL, str(error), "make install, or set TUTTI_REDIS_URL")
    answer, said = asyncio.run(_ask_cache(settings.redis_url))
    if answer is True:
        return Finding("cache", Status.OK, said)
    return Finding("cache", Status.FAIL, answer, "start it, or unset TUTTI_REDIS_URL: tutti serve then runs its own")


async def _ask_cache(url: str) -> tuple[Literal[True] | str, str]:
    cache = Cache.connect(url)
    try:
        answer = await cache.check()
        if answer is not True:
            return answer, ""
        info = await cache.redis.info("server")
        return True, f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"
    finally:
        await cache.close()


def _check_storage(settings: Settings) -> Finding:
    parts = urlsplit(settings.storage_url)
    folder = Path(unquote(parts.path)) if parts.scheme == "file" else None
    if folder is not None and not folder.exists():
        return _not_yet("storage", folder)
    try:
        answer = asyncio.run(ObjectStore.from_url(settings.storage_url).check())
    except StorageError as error:
        return Finding("storage", Status.FAIL, str(error), "mend TUTTI_STORAGE_URL, or the credentials it needs")
    if answer is True:
        return Finding("storage", Status.OK, f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
    return Finding("storage", Status.FAIL, str(answer), "mend TUTTI_STORAGE_URL, or the credentials it needs")


def _not_yet(name: str, path: Path) -> Finding:
    """Nothing is there, which is fine where it can be made."""
    nearest = next(parent for parent in path.parents if parent.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return Finding(name, Status.OK, f"tutti serve will make {path}")
    return Finding(name, Status.FAIL, f"{nearest} cannot be written", _WRITABLE)
