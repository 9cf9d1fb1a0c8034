"""API keys: made once, shown once, kept as an HMAC; with scopes, an expiry and rotation that overlaps."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import RowMapping, and_, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import key_format
from api.auth.derivation import SecretKeys
from api.auth.identity import lock_account
from api.auth.key_records import ApiKey, Made, NewKey, Once, Recognised
from api.auth.key_secrets import KeySecrets
from api.clock import Clock
from api.errors import ApiError, ErrorCode
from api.ids import new_id
from api.limits import idempotency
from api.store.database import Database
from api.store.schema import api_keys

__all__ = ["MAX_ACTIVE_KEYS", "ApiKey", "ApiKeys", "Made", "NewKey", "Once", "Recognised"]

MAX_ACTIVE_KEYS: Final = 50
MAX_LISTED: Final = 200
MIN_LEGACY_CHARACTERS: Final = 16
LAST_USED_STEP_S: Final = 60.0
_ID: Final = re.compile(r"key_[0-9a-f]{24}")
_K = api_keys.c


class ApiKeys:
    """
    Args:
        secrets: of the installation; keys are stored as HMACs, see ``api.auth.key_secrets``.
    """

    def __init__(self, db: Database, secrets: SecretKeys, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._secrets = KeySecrets(secrets)

    async def create(self, account_id: str, wanted: NewKey, once: Once | None = None) -> Made:
        """
        Raises:
            ApiError: limit_reached; those of ``idempotency.claim``.
        """
        async with self._db.begin() as conn:
            await lock_account(conn, account_id)
            return await self._once(conn, account_id, once, lambda: self._insert(conn, account_id, wanted, once))

    async def adopt(self, account_id: str, wanted: NewKey, legacy: str) -> ApiKey:
        """Take over a key that exists already and has no prefix; it works, but counts as deprecated.

        Raises:
            ApiError: limit_reached; invalid_parameter when it has a prefix, is short or is known here already.
        """
        if key_format.is_prefixed(legacy) or len(legacy) < MIN_LEGACY_CHARACTERS:
            raise ApiError(
                ErrorCode.INVALID_PARAMETER,
                f"a legacy key has no prefix and at least {MIN_LEGACY_CHARACTERS} characters: make a new one",
            )
        async with self._db.begin() as conn:
            await lock_account(conn, account_id)
            if await self.find(conn, legacy) is not None:
                raise ApiError(ErrorCode.INVALID_PARAMETER, "this key is known here already: nothing to take over")
            return await self._store(conn, account_id, new_id("key"), wanted, legacy)

    async def of_account(self, account_id: str) -> list[ApiKey]:
        """Those that work first, then the newest; at most 200."""
        now = self._clock()
        wanted = (
            select(api_keys)
            .where(_K.account_id == account_id)
            .order_by(_active(now).desc(), _K.created_at.desc(), _K.id)
            .limit(MAX_LISTED)
        )
        async with self._db.read() as conn:
            return [ApiKey.of(row) for row in (await conn.execute(wanted)).mappings()]

    async def get(self, account_id: str, key_id: str) -> ApiKey:
        """
        Raises:
            ApiError: api_key_not_found.
        """
        async with self._db.read() as conn:
            return await self._own(conn, account_id, key_id)

    async def revoke(self, account_id: str, key_id: str) -> None:
        """End a key for good; one that has ended stays as it is.

        Raises:
            ApiError: api_key_not_found.
        """
        async with self._db.begin() as conn:
            await lock_account(conn, account_id)
            key = await self._own(conn, account_id, key_id)
            if key.revoked_at is None:
                await conn.execute(update(api_keys).where(_K.id == key.id).values(revoked_at=self._clock()))

    async def rotate(self, account_id: str, key_id: str, overlap_s: float, once: Once | None = None) -> Made:
        """A successor with the same name, mode, scopes and lifetime; the old key works for ``overlap_s`` more seconds.

        Raises:
            ApiError: api_key_not_found, or api_key_inactive for one that has ended or has a successor; limit_reached;
                those of ``idempotency.claim``.
        """
        async with self._db.begin() as conn:
            await lock_account(conn, account_id)
            old = await self._own(conn, account_id, key_id)
            return await self._once(conn, account_id, once, lambda: self._succeed(conn, old, overlap_s, once))

    async def find(self, conn: AsyncConnection, key: str) -> Recognised | None:
        hashes = self._secrets.hashes(key)
        row = (await conn.execute(select(api_keys).where(_K.key_hash.in_(hashes)))).mappings().first()
        if row is None:
            return None
        return Recognised(ApiKey.of(row), hashes[0] if row["key_hash"] != hashes[0] else None)

    async def touch(self, found: Recognised) -> None:
        """Note that the key was used, at most once a minute, and store its hash anew if an earlier secret made it."""
        now, key = self._clock(), found.key
        written: dict[str, Any] = {"last_used_at": now}
        used_before = now - timedelta(seconds=LAST_USED_STEP_S)
        due = or_(_K.last_used_at.is_(None), _K.last_used_at <= used_before)
        if found.new_hash is not None:
            written["key_hash"] = found.new_hash
            due = _K.key_hash != found.new_hash
        elif key.last_used_at is not None and key.last_used_at > used_before:
            return
        async with self._db.begin() as conn:
            await conn.execute(update(api_keys).where(_K.id == key.id, due).values(written))

    async def unused_since(self, moment: datetime) -> tuple[int, int]:
        """How many active keys nobody has used since then, and how many are active.

        If ``TUTTI_SECRET_KEY`` was replaced at that moment, the former still hang on the one before: a use would have
        stored their hash anew.
        """
        active = select(func.count()).select_from(api_keys).where(_active(self._clock()))
        unused = active.where(_K.created_at < moment, or_(_K.last_used_at.is_(None), _K.last_used_at < moment))
        async with self._db.read() as conn:
            return (await conn.execute(unused)).scalar_one(), (await conn.execute(active)).scalar_one()

    async def _own(self, conn: AsyncConnection, account_id: str, key_id: str) -> ApiKey:
        return ApiKey.of(await self._own_row(conn, account_id, key_id))

    async def _own_row(self, conn: AsyncConnection, account_id: str, key_id: str) -> RowMapping:
        if _ID.fullmatch(key_id) is None:  # a database refuses some characters with an error of its own
            raise ApiError(ErrorCode.API_KEY_NOT_FOUND)
        wanted = select(api_keys).where(_K.id == key_id, _K.account_id == account_id)
        row = (await conn.execute(wanted)).mappings().first()
        if row is None:
            raise ApiError(ErrorCode.API_KEY_NOT_FOUND)
        return row

    async def _once(
        self, conn: AsyncConnection, account_id: str, once: Once | None, make: Callable[[], Awaitable[Made]]
    ) -> Made:
        """Make a key, or answer as the first call with this idempotency key was."""
        if once is None:
            return await make()
        claimed = await idempotency.claim(conn, account_id, once.key, once.request_hash, self._clock())
        if claimed.replay is not None:
            assert claimed.replay.resource_id is not None, "stored with every key that was made"
            return self._again(await self._own_row(conn, account_id, claimed.replay.resource_id), once)
        made = await make()
        await idempotency.complete(conn, claimed, status=201, body=None, resource_id=made.key.id)
        return made

    def _again(self, row: RowMapping, once: Once) -> Made:
        key = ApiKey.of(row)
        secret = self._secrets.again(key.mode, key.id, once, row["key_hash"])
        if secret is None:
            raise ApiError(
                ErrorCode.IDEMPOTENCY_KEY_REUSED,
                f"this call made the API key {key.id}, but the server's secret has been replaced since and the key "
                f"cannot be shown again: revoke it, and make another one with a new {idempotency.HEADER}",
                param=idempotency.HEADER,
            )
        return Made(key, secret, replayed=True)

    async def _succeed(self, conn: AsyncConnection, old: ApiKey, overlap_s: float, once: Once | None) -> Made:
        now = self._clock()
        _refuse_rotation(old, now)
        expires_at = now + (old.expires_at - old.created_at) if old.expires_at is not None else None
        made = await self._insert(conn, old.account_id, NewKey(old.name, old.mode, old.scopes, expires_at), once)
        overlap_ends_at = now + timedelta(seconds=overlap_s)
        ends_at = min(old.expires_at, overlap_ends_at) if old.expires_at is not None else overlap_ends_at
        rotated = update(api_keys).where(_K.id == old.id).values(expires_at=ends_at, successor_id=made.key.id)
        await conn.execute(rotated)
        return made

    async def _insert(self, conn: AsyncConnection, account_id: str, wanted: NewKey, once: Once | None) -> Made:
        key_id = new_id("key")
        secret = self._secrets.new(wanted.mode, key_id, once)
        return Made(await self._store(conn, account_id, key_id, wanted, secret), secret)

    async def _store(self, conn: AsyncConnection, account_id: str, key_id: str, wanted: NewKey, secret: str) -> ApiKey:
        now = self._clock()
        active = select(func.count()).select_from(api_keys).where(_K.account_id == account_id, _active(now))
        if (await conn.execute(active)).scalar_one() >= MAX_ACTIVE_KEYS:
            raise ApiError(
                ErrorCode.LIMIT_REACHED, f"an account has at most {MAX_ACTIVE_KEYS} active API keys: revoke one first"
            )
        row: dict[str, Any] = {
            "id": key_id,
            "account_id": account_id,
            "name": wanted.name,
            "hint": key_format.hint(secret),
            "mode": wanted.mode,
            "scopes": sorted(wanted.scopes),
            "created_at": now,
            "expires_at": wanted.expires_at,
            "revoked_at": None,
            "last_used_at": None,
            "successor_id": None,
        }
        await conn.execute(insert(api_keys).values(**row, key_hash=self._secrets.hash(secret)))
        return ApiKey.of(row)


def _active(now: datetime) -> Any:
    return and_(_K.revoked_at.is_(None), or_(_K.expires_at.is_(None), _K.expires_at > now))


def _refuse_rotation(key: ApiKey, now: datetime) -> None:
    status = key.status(now)
    if status != "active":
        raise ApiError(ErrorCode.API_KEY_INACTIVE, f"this API key is {status}: make a new one")
    if key.successor_id is not None:
        raise ApiError(ErrorCode.API_KEY_INACTIVE, "this API key was rotated before: rotate its successor")
