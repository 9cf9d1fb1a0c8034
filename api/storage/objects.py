"""Objects by key: in a local directory by default, in S3, Google Cloud Storage or Azure by URL, in memory for tests.

Bytes go in whole or not at all, and come back whole or in parts. What is stored here is always sealed by the vault.

The same tests run on a directory, in memory, and on S3's protocol against a server on this machine that checks
signatures. Azure was run by hand only, against an emulator of it. Google Cloud Storage was never run: of both, only the
addresses and what is said about missing credentials are tested.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import obstore
from obstore import exceptions as failures
from obstore.store import ObjectStore as Store

from api.ids import new_id
from api.storage.errors import ObjectMissingError, StorageError
from api.storage.failures import is_past_end, translated
from api.storage.opening import open_store

_KEY_PART = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
PROBES = "health"
"""Below this lie the objects that ``check`` writes and removes."""


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
                ``az://container/prefix``. The last three take credentials from the environment:
                ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` and ``AWS_REGION``, with ``AWS_ENDPOINT`` for a server
                that is not Amazon's; ``GOOGLE_APPLICATION_CREDENTIALS``; ``AZURE_STORAGE_ACCOUNT_NAME`` and
                ``AZURE_STORAGE_ACCOUNT_KEY``; or from the role of the machine.

        Raises:
            StorageConfigError: the address is unknown or cannot be used.
        """
        return cls(*open_store(url))

    async def put(self, key: str, data: bytes) -> None:
        """Write a whole object, atomically: readers see the old one, the new one, or none, and never a part."""
        with translated(key, is_write=True):
            await obstore.put_async(self._store, key, data)
        if self._directory is not None:
            await asyncio.to_thread(_flush, self._directory / key)

    async def get(self, key: str) -> bytes:
        """The whole object.

        Raises:
            ObjectMissingError: there is none.
        """
        with translated(key):
            found = await obstore.get_async(self._store, key)
            return bytes(await found.bytes_async())

    async def get_part(self, key: str, start: int, stop: int) -> tuple[bytes, int]:
        """The bytes ``[start, stop)``, fewer if the object ends before, and the size of the whole object.

        Raises:
            ObjectMissingError: there is none.
        """
        with translated(key):
            try:
                found = await obstore.get_async(self._store, key, options={"range": (start, stop)})
            except failures.BaseError as error:
                if not is_past_end(error):
                    raise
                size = (await obstore.head_async(self._store, key))["size"]
                if size > start:
                    raise
                return b"", size
            return bytes(await found.bytes_async()), found.meta["size"]

    async def delete(self, key: str) -> None:
        """Remove an object; one that is not there is fine, since removals are repeated after a crash."""
        try:
            with translated(key):
                await obstore.delete_async(self._store, key)
        except ObjectMissingError:
            return

    async def listing(self, prefix: str) -> AsyncIterator[StoredObject]:
        """Every object below a prefix, in no order."""
        with translated(prefix):
            async for batch in obstore.list(self._store, prefix):
                for entry in batch:
                    yield StoredObject(entry["path"], entry["size"], entry["last_modified"])

    async def check(self) -> bool | str:
        """True if an object can be written, read and removed now, otherwise the reason, for an operator."""
        key, content = f"{PROBES}/{new_id('probe')}", os.urandom(16)  # a key of its own: others may be checking, too
        try:
            await self.put(key, content)
            found = await self.get(key)
            await self.delete(key)
        except StorageError as error:
            return str(error)
        return found == content or "the object store returned other bytes than were written"


def _flush(path: Path) -> None:
    """On to the disk, name and all: SQL will promise that this object exists, and must not be the only survivor."""
    for target, flags in ((path, os.O_RDONLY), (path.parent, os.O_RDONLY | os.O_DIRECTORY)):
        descriptor = os.open(target, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
