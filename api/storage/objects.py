"""Objects by key: in a local directory by default, in S3, Google Cloud Storage or Azure by URL, in memory for tests.

Bytes go in whole or not at all, and come back whole or in parts. What is stored here is always sealed by the vault.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote, urlsplit

import obstore
from obstore import exceptions as failures
from obstore.store import ObjectStore as Store
from obstore.store import from_url

from api.storage.errors import ObjectMissingError, StorageConfigError, StorageError, StorageUnavailableError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_RETRY: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}
_REMOTE = frozenset({"s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss"})
_KEY_PART = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
_PROBE_KEY = "health/probe"
_PERMANENT = (failures.PermissionDeniedError, failures.UnauthenticatedError, failures.UnknownConfigurationKeyError)


def object_key(*parts: str) -> str:
    """A key from ids that were minted here. Nothing a client wrote ever becomes part of one.

    Raises:
        ValueError: a part is no minted id; reaching this is a bug.
    """
    for part in parts:
        if not _KEY_PART.fullmatch(part) or ".." in part:
            raise ValueError("an object key is made of ids minted here only; this is a bug")
    return "/".join(parts)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One entry of a listing. ``size`` in bytes."""

    key: str
    size: int
    modified_at: datetime


class ObjectStore:
    """One place for objects. Make it with ``from_url``.

    Every method may raise StorageUnavailableError (try later) or StorageConfigError (credentials, permissions).
    """

    def __init__(self, store: Store, directory: Path | None = None) -> None:
        self._store = store
        self._directory = directory

    @classmethod
    def from_url(cls, url: str) -> ObjectStore:
        """A store by its address; nothing is contacted yet.

        Args:
            url: ``file:///path``, ``memory:///``, ``s3://bucket/prefix``, ``gs://bucket/prefix`` or
                ``az://account/container/prefix``. Credentials of the last three come from the environment variables
                their own tools read (``AWS_*``, ``GOOGLE_*``, ``AZURE_*``); ``AWS_ENDPOINT`` names another S3.

        Raises:
            StorageConfigError: the address is unknown or cannot be used.
        """
        scheme = urlsplit(url).scheme
        try:
            if scheme == "file":
                return cls(*_local(url))
            if scheme == "memory":
                return cls(from_url("memory:///"))
            if scheme not in _REMOTE:
                raise StorageConfigError("a storage URL begins with file, s3, gs, az or memory: mend TUTTI_STORAGE_URL")
            return cls(from_url(url, client_options=_client(), retry_config=_RETRY))
        except (failures.BaseError, ValueError, OSError) as error:
            raise StorageConfigError(f"the object store cannot be opened: {_kind(error)}; mend its URL") from error

    async def put(self, key: str, data: bytes) -> None:
        """Write a whole object, atomically: readers see the old one, the new one, or none, and never a part."""
        with _translated(key):
            await obstore.put_async(self._store, key, data)
        if self._directory is not None:
            await asyncio.to_thread(_flush, self._directory / key)

    async def get(self, key: str) -> bytes:
        """The whole object.

        Raises:
            ObjectMissingError: there is none.
        """
        with _translated(key):
            found = await obstore.get_async(self._store, key)
            return bytes(await found.bytes_async())

    async def get_part(self, key: str, start: int, stop: int) -> tuple[bytes, int]:
        """The bytes ``[start, stop)``, fewer if the object ends before, and the size of the whole object.

        Raises:
            ObjectMissingError: there is none.
        """
        with _translated(key):
            found = await obstore.get_async(self._store, key, options={"range": (start, stop)})
            return bytes(await found.bytes_async()), found.meta["size"]

    async def delete(self, key: str) -> None:
        """Remove an object; one that is not there is fine, since removals are repeated after a crash."""
        try:
            with _translated(key):
                await obstore.delete_async(self._store, key)
        except ObjectMissingError:
            return

    async def listing(self, prefix: str) -> AsyncIterator[StoredObject]:
        """Every object below a prefix, in no order."""
        with _translated(prefix):
            async for batch in obstore.list(self._store, prefix):
                for entry in batch:
                    yield StoredObject(entry["path"], entry["size"], entry["last_modified"])

    async def delete_below(self, prefix: str) -> int:
        """Remove every object below a prefix; returns how many there were."""
        keys = [entry.key async for entry in self.listing(prefix)]
        for key in keys:
            await self.delete(key)
        return len(keys)

    async def check(self) -> bool | str:
        """True if an object can be written, read and removed now, otherwise the reason, for an operator."""
        try:
            await self.put(_PROBE_KEY, b"ok")
            found = await self.get(_PROBE_KEY)
        except StorageError as error:
            return str(error)
        return found == b"ok" or "the object store returned other bytes than were written"


def _local(url: str) -> tuple[Store, Path]:
    parts = urlsplit(url)
    directory = Path(unquote(parts.path))
    if parts.netloc or not directory.is_absolute():
        raise StorageConfigError("a local store is file:///and/an/absolute/path: mend TUTTI_STORAGE_URL")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return cast(Store, obstore.store.LocalStore(directory)), directory


def _client() -> ClientConfig:
    # Options given here replace those of the environment, so the one that S3-compatible servers need is passed on.
    plain = os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true"
    return {"connect_timeout": "5s", "timeout": "60s", "allow_http": plain}


def _flush(path: Path) -> None:
    """On to the disk, name and all: SQL will promise that this object exists, and must not be the only survivor."""
    for target, flags in ((path, os.O_RDONLY), (path.parent, os.O_RDONLY | os.O_DIRECTORY)):
        descriptor = os.open(target, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except (failures.NotFoundError, FileNotFoundError) as error:
        raise ObjectMissingError(f"there is no object {key}") from error
    except (*_PERMANENT, PermissionError) as error:
        raise StorageConfigError(f"the object store refuses: {_kind(error)}; check credentials and rights") from error
    except (failures.BaseError, OSError) as error:
        raise StorageUnavailableError(f"the object store does not answer: {_kind(error)}") from error


def _kind(error: Exception) -> str:
    """The error's type only: the text of a store's error may repeat addresses and credentials."""
    return type(error).__name__
