"""Audio that clients bring: checked, decoded in a process of its own, kept encrypted for a while."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.clock import Clock
from api.errors import ApiError, ErrorCode
from api.generations import outbox, referring
from api.ids import new_id
from api.limits import idempotency
from api.settings import Settings
from api.storage.audio import AudioLibrary
from api.store.database import Database
from api.store.schema import uploads
from api.uploads.decoder import Decoder
from api.uploads.probe import probe

MAX_IN_HAND = 8
MAX_PER_ACCOUNT = 2
BODY_S = 120.0
_RETRY_S = 2.0
_PURGE_BATCH = 200
_ID = re.compile(r"upl_[0-9a-f]{24}")


class Uploads:
    """What comes in and how long it stays."""

    def __init__(self, db: Database, library: AudioLibrary, settings: Settings, clock: Clock) -> None:
        self._db = db
        self._library = library
        self._clock = clock
        self._ttl = timedelta(seconds=settings.upload_ttl_s)
        self._max_duration_s = settings.max_upload_s
        self._decoder = Decoder(settings.max_upload_s)
        self._in_hand: Counter[str] = Counter()

    @asynccontextmanager
    async def place(self, account_id: str) -> AsyncIterator[None]:
        """Room in memory for one upload, from the first byte of its body to its last sample, for ``BODY_S`` seconds.

        Raises:
            ApiError: system_overloaded: too many are in hand; concurrency_limit_exceeded: too many of this account;
                request_timeout.
        """
        if self._in_hand.total() >= MAX_IN_HAND:
            raise ApiError(ErrorCode.SYSTEM_OVERLOADED, retry_after_s=_RETRY_S)
        if self._in_hand[account_id] >= MAX_PER_ACCOUNT:
            message = f"{MAX_PER_ACCOUNT} uploads of this account are under way: wait for one to end"
            raise ApiError(ErrorCode.CONCURRENCY_LIMIT_EXCEEDED, message, retry_after_s=_RETRY_S)
        self._in_hand[account_id] += 1
        try:
            async with asyncio.timeout(BODY_S):
                yield
        except TimeoutError as error:
            message = f"the upload took longer than {BODY_S:g} s: send a smaller file, or send it faster"
            raise ApiError(ErrorCode.REQUEST_TIMEOUT, message) from error
        finally:
            self._in_hand -= Counter([account_id])

    async def create(self, account_id: str, data: bytes, key: str | None = None) -> tuple[Row[Any], bool]:
        """Decode and store a file; its row, and whether this is a replay of an earlier call.

        Args:
            key: the Idempotency-Key.

        Raises:
            ApiError: unsupported_media_type, unreadable_audio, audio_too_long; those of ``idempotency.claim``.
            StorageError: it cannot be stored now.
        """
        # In a thread: checksums of a large file take tenths of a second.
        decoded = await self._decoder.decode(await asyncio.to_thread(probe, data, self._max_duration_s))
        upload_id, now = new_id("upl"), self._clock()
        stored = await self._library.store_upload(account_id, upload_id, decoded.pcm, decoded.channels)
        values = {
            "id": upload_id,
            "account_id": account_id,
            "object_key": stored.object_key,
            "sha256": stored.sha256,
            "sample_rate": decoded.sample_rate,
            "channels": decoded.channels,
            "total_samples": decoded.total_samples,
            "created_at": now,
            "expires_at": now + self._ttl,
        }
        row, replayed = await self._insert(values, data, key)
        if replayed:
            await self._library.delete(stored.object_key)
        return row, replayed

    async def get(self, account_id: str, upload_id: str) -> Row[Any]:
        """
        Raises:
            ApiError: audio_not_found, also when it has expired or is somebody else's.
        """
        async with self._db.read() as conn:
            return await find(conn, account_id, upload_id, self._clock())

    async def remove(self, account_id: str, upload_id: str) -> None:
        """Delete the row; its object follows from the outbox.

        Raises:
            ApiError: audio_not_found.
        """
        now = self._clock()
        async with self._db.begin() as conn:
            row = await find(conn, account_id, upload_id, now)
            await conn.execute(delete(uploads).where(uploads.c.id == row.id))
            await referring.delete_object(conn, account_id, row.id, row.object_key, now)

    async def purge(self) -> int:
        """Remove what has expired; returns how many there were. For whoever sweeps; any number may do so at once."""
        now = self._clock()
        expired = select(uploads).where(uploads.c.expires_at <= now).limit(_PURGE_BATCH)
        async with self._db.begin() as conn:
            rows = (await conn.execute(expired.with_for_update(skip_locked=True))).all()
            for row in rows:  # nothing needs them: ``keep`` saw to it
                await conn.execute(delete(uploads).where(uploads.c.id == row.id))
                await outbox.put(conn, outbox.OBJECT_DELETE, {"object_key": row.object_key}, now)
        return len(rows)

    def close(self) -> None:
        """Take nothing more."""
        self._decoder.close()

    async def _insert(self, values: dict[str, Any], data: bytes, key: str | None) -> tuple[Row[Any], bool]:
        account_id, now = values["account_id"], values["created_at"]
        async with self._db.begin() as conn:
            claimed = None
            if key is not None:
                hashed = idempotency.request_hash("POST", "/audio/uploads", hashlib.sha256(data).hexdigest())
                claimed = await idempotency.claim(conn, account_id, key, hashed, now)
                if claimed.replay is not None:
                    return await find(conn, account_id, str(claimed.replay.resource_id), now), True
            await conn.execute(insert(uploads).values(values))
            if claimed is not None:
                await idempotency.complete(conn, claimed, status=201, body=None, resource_id=values["id"])
            return await find(conn, account_id, values["id"], now), False


async def find(conn: AsyncConnection, account_id: str, upload_id: str, now: datetime) -> Row[Any]:
    """The row of an upload that has not expired.

    Raises:
        ApiError: audio_not_found.
    """
    wanted = select(uploads).where(
        uploads.c.id == upload_id, uploads.c.account_id == account_id, uploads.c.expires_at > now
    )
    row: Row[Any] | None = (await conn.execute(wanted)).one_or_none() if _ID.fullmatch(upload_id) else None
    if row is None:
        raise ApiError(ErrorCode.AUDIO_NOT_FOUND)
    return row


async def keep(conn: AsyncConnection, upload_ids: Sequence[str], until: datetime) -> None:
    """Let them stay at least so long: what was accepted needs them."""
    wanted = uploads.c.id.in_(upload_ids), uploads.c.expires_at < until
    await conn.execute(update(uploads).where(*wanted).values(expires_at=until))
