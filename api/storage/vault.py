"""Envelope encryption: master keys wrap one data key per account, data keys encrypt the account's audio and secrets.

A master key is 32 bytes from the settings, a data key 32 random bytes in the table ``data_keys``, wrapped by
AES-256-GCM and bound to its account and version. So a new master key means wrapping small rows anew and never
touching audio; and an account is erased by deleting its rows: copies and backups of its objects stay unreadable.
Unwrapped keys are not kept: what was erased cannot be read a moment later by a process that remembered.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from api.clock import Clock
from api.storage.errors import KeyMissingError, SealBrokenError
from api.storage.sealed import bound
from api.store.schema import accounts, data_keys

if TYPE_CHECKING:
    from api.store.database import Database

KEY_BYTES = 32
_NONCE_BYTES = 12
_SECRET = struct.Struct(">4sI12s")  # magic, data key's version, nonce; then the ciphertext
_MAGIC = b"TTS1"
_ROTATION_BATCH = 200


@dataclass(frozen=True, slots=True)
class DataKey:
    """One account's key, unwrapped. The key stays out of ``repr`` and so out of logs and tracebacks."""

    version: int
    key: bytes = field(repr=False)


class Vault:
    """Keys, and small secrets sealed with them. Objects are sealed by ``api.storage.sealed`` with the same keys.

    Args:
        master_keys: id → 32 bytes; the first one wraps, the others still unwrap.

    Raises:
        ValueError: there is no master key, or one is not 32 bytes.
    """

    def __init__(self, db: Database, master_keys: Mapping[str, bytes], clock: Clock) -> None:
        if not master_keys or any(len(key) != KEY_BYTES for key in master_keys.values()):
            raise ValueError(f"TUTTI_MASTER_KEYS: give at least one key, each of {KEY_BYTES} bytes")
        self._db = db
        self._clock = clock
        self._masters = {name: AESGCM(key) for name, key in master_keys.items()}
        self._current = next(iter(master_keys))

    async def seal(self, conn: AsyncConnection | None, account_id: str, data: bytes, context: str) -> bytes:
        """Encrypt a small secret with the account's newest data key.

        Args:
            conn: the write transaction to take the key in, or None for one of its own.
            context: what the secret is and whose row it sits in; it opens only as that.

        Raises:
            KeyMissingError: there is no such account, or it was erased.
        """
        current = await self.newest(account_id, conn)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        header = _SECRET.pack(_MAGIC, current.version, nonce)
        return header + AESGCM(current.key).encrypt(nonce, data, bound("tutti secret", header, account_id, context))

    async def unseal(self, conn: AsyncConnection | None, account_id: str, sealed: bytes, context: str) -> bytes:
        """Decrypt what ``seal`` made.

        Raises:
            SealBrokenError: altered, or of another account or context.
            KeyMissingError: the account was erased, or the master key is not configured.
        """
        if len(sealed) < _SECRET.size or sealed[:4] != _MAGIC:
            raise SealBrokenError("a stored secret does not begin as one that was sealed here")
        header = sealed[: _SECRET.size]
        _, version, nonce = _SECRET.unpack(header)
        key = await self.version(account_id, version, conn)
        try:
            context_bytes = bound("tutti secret", header, account_id, context)
            return AESGCM(key.key).decrypt(nonce, sealed[_SECRET.size :], context_bytes)
        except InvalidTag as error:
            raise SealBrokenError("a stored secret is not what was sealed") from error

    async def newest(self, account_id: str, conn: AsyncConnection | None = None) -> DataKey:
        """The data key for new data, made now if the account has none.

        Raises:
            KeyMissingError: there is no such account, or it was erased.
        """
        async with self._reading(conn) as reading:
            row = await self._find_newest(reading, account_id)
        if row is None:
            row = await self._add(conn, account_id, 1)
        return self._unwrap(row)

    async def version(self, account_id: str, version: int, conn: AsyncConnection | None = None) -> DataKey:
        """The data key of a version.

        Raises:
            KeyMissingError: it is gone.
        """
        wanted = select(data_keys).where(data_keys.c.account_id == account_id, data_keys.c.version == version)
        async with self._reading(conn) as reading:
            row = (await reading.execute(wanted)).one_or_none()
        if row is None:
            raise KeyMissingError("the key of this data is gone: its account was erased")
        return self._unwrap(row)

    async def rotate_account(self, account_id: str) -> int:
        """Give an account a new data key, for new data; the old ones still open the old. Returns the new version.

        Raises:
            KeyMissingError: there is no such account, or it was erased.
        """
        newest = await self.newest(account_id)
        return int((await self._add(None, account_id, newest.version + 1)).version)

    async def rotate_master(self, db: Database | None = None) -> int:
        """Wrap every data key that an older master key wraps with the current one; returns how many.

        Everything can be read all the while. The older master key may leave the settings once this has run with no
        process left that still has it in the first place.

        Raises:
            KeyMissingError: a row was wrapped by a master key that is not configured.
        """
        rotated = 0
        while True:
            async with (db or self._db).begin() as conn:
                stale = select(data_keys).where(data_keys.c.master_key_id != self._current).limit(_ROTATION_BATCH)
                rows = (await conn.execute(stale)).all()
                for row in rows:
                    rotated += await self._rewrap(conn, row)
            if not rows:
                return rotated

    async def erase(self, conn: AsyncConnection, account_id: str) -> None:
        """Delete an account's data keys: all it ever stored becomes unreadable with this transaction."""
        await conn.execute(delete(data_keys).where(data_keys.c.account_id == account_id))

    async def _add(self, conn: AsyncConnection | None, account_id: str, version: int) -> Row[tuple[object, ...]]:
        """Insert a version unless another process was faster, and return the one that is there."""
        async with self._writing(conn) as writing:
            # Locked, so that no key appears behind an erasure that runs at this moment.
            status = select(accounts.c.status).where(accounts.c.id == account_id).with_for_update(read=True)
            if (await writing.execute(status)).scalar_one_or_none() in {None, "erased"}:
                raise KeyMissingError("there is no such account, or it was erased: nothing can be stored for it")
            insert = postgresql.insert if writing.dialect.name == "postgresql" else sqlite.insert
            values = {
                "account_id": account_id,
                "version": version,
                "wrapped": self._wrap(secrets.token_bytes(KEY_BYTES), account_id, version),
                "master_key_id": self._current,
                "created_at": self._clock(),
            }
            await writing.execute(insert(data_keys).values(values).on_conflict_do_nothing())
            row = await self._find_newest(writing, account_id)
        assert row is not None
        return row

    async def _find_newest(self, conn: AsyncConnection, account_id: str) -> Row[tuple[object, ...]] | None:
        newest = select(func.max(data_keys.c.version)).where(data_keys.c.account_id == account_id).scalar_subquery()
        wanted = select(data_keys).where(data_keys.c.account_id == account_id, data_keys.c.version == newest)
        return (await conn.execute(wanted)).one_or_none()

    async def _rewrap(self, conn: AsyncConnection, row: Row[tuple[object, ...]]) -> int:
        wrapped = self._wrap(self._unwrap(row).key, row.account_id, row.version)
        changed = await conn.execute(
            update(data_keys)
            .where(data_keys.c.account_id == row.account_id, data_keys.c.version == row.version)
            .where(data_keys.c.master_key_id == row.master_key_id)
            .values(wrapped=wrapped, master_key_id=self._current)
        )
        return changed.rowcount

    def _wrap(self, key: bytes, account_id: str, version: int) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._masters[self._current].encrypt(nonce, key, _key_identity(account_id, version))

    def _unwrap(self, row: Row[tuple[object, ...]]) -> DataKey:
        master = self._masters.get(row.master_key_id)
        if master is None:
            raise KeyMissingError(f"master key {row.master_key_id!r} is not configured: add it to TUTTI_MASTER_KEYS")
        nonce, wrapped = row.wrapped[:_NONCE_BYTES], row.wrapped[_NONCE_BYTES:]
        try:
            return DataKey(row.version, master.decrypt(nonce, wrapped, _key_identity(row.account_id, row.version)))
        except InvalidTag as error:
            message = f"master key {row.master_key_id!r} does not open this data key: TUTTI_MASTER_KEYS has another one"
            raise KeyMissingError(message) from error

    @asynccontextmanager
    async def _reading(self, conn: AsyncConnection | None) -> AsyncIterator[AsyncConnection]:
        if conn is not None:
            yield conn
            return
        async with self._db.read() as opened:
            yield opened

    @asynccontextmanager
    async def _writing(self, conn: AsyncConnection | None) -> AsyncIterator[AsyncConnection]:
        if conn is not None:
            yield conn
            return
        async with self._db.begin() as opened:
            yield opened


def _key_identity(account_id: str, version: int) -> bytes:
    return bound("tutti data key", account_id, str(version))
