"""API keys: made once, shown once, kept as an HMAC; with scopes, an expiry and rotation that overlaps."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import RowMapping, and_, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import key_format
from api.auth.derivation import Digest
from api.auth.key_format import KeyMode
from api.auth.principal import Scope
from api.clock import Clock
from api.errors import ApiError, ErrorCode
from api.ids import new_id
from api.store.database import Database
from api.store.schema import accounts, api_keys

MAX_ACTIVE_KEYS: Final = 50
MAX_LISTED: Final = 200
LAST_USED_STEP_S: Final = 60.0
_K = api_keys.c


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What may be known of a key. Its status is that of the moment it was read."""

    id: str
    account_id: str
    name: str
    hint: str
    mode: KeyMode
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    successor_id: str | None

    def status(self, now: datetime) -> Literal["active", "expired", "revoked"]:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


class ApiKeys:
    """
    Args:
        secret: of the installation; keys are stored as HMACs under a key derived from it.
    """

    def __init__(self, db: Database, secret: str, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self.digest = Digest(secret, "api-key")

    async def create(
        self,
        account_id: str,
        name: str,
        mode: KeyMode,
        scopes: Collection[Scope],
        expires_at: datetime | None,
        *,
        key: str | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key and, for the only time, what it reads.

        Args:
            key: one that exists already and has no prefix, to be taken over as a legacy key.

        Raises:
            ApiError: limit_reached.
        """
        secret = key or key_format.new_key(mode)
        async with self._db.begin() as conn:
            return await self._insert(conn, account_id, name, mode, scopes, expires_at, secret), secret

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
            return [_from_row(row) for row in (await conn.execute(wanted)).mappings()]

    async def revoke(self, account_id: str, key_id: str) -> None:
        """End a key for good; one that has ended stays as it is.

        Raises:
            ApiError: api_key_not_found.
        """
        async with self._db.begin() as conn:
            key = await self._own(conn, account_id, key_id)
            if key.revoked_at is None:
                await conn.execute(update(api_keys).where(_K.id == key.id).values(revoked_at=self._clock()))

    async def rotate(self, account_id: str, key_id: str, overlap_s: float) -> tuple[ApiKey, str]:
        """A successor with the same name, mode, scopes and lifetime; the old key works for ``overlap_s`` more seconds.

        Raises:
            ApiError: api_key_not_found, or api_key_inactive for one that has ended or has a successor.
        """
        now = self._clock()
        async with self._db.begin() as conn:
            old = await self._own(conn, account_id, key_id)
            _refuse_rotation(old, now)
            lifetime = old.expires_at - old.created_at if old.expires_at is not None else None
            secret = key_format.new_key(old.mode)
            expires_at = now + lifetime if lifetime is not None else None
            new = await self._insert(conn, account_id, old.name, old.mode, old.scopes, expires_at, secret)
            overlap_ends_at = now + timedelta(seconds=overlap_s)
            ends_at = min(old.expires_at, overlap_ends_at) if old.expires_at is not None else overlap_ends_at
            await conn.execute(update(api_keys).where(_K.id == old.id).values(expires_at=ends_at, successor_id=new.id))
        return new, secret

    async def find(self, conn: AsyncConnection, key: str) -> ApiKey | None:
        row = (await conn.execute(select(api_keys).where(_K.key_hash == self.digest(key)))).mappings().first()
        return _from_row(row) if row is not None else None

    async def touch(self, key: ApiKey) -> None:
        """Note that the key was used; written at most once a minute."""
        now = self._clock()
        stale_before = now - timedelta(seconds=LAST_USED_STEP_S)
        if key.last_used_at is not None and key.last_used_at > stale_before:
            return
        stale = or_(_K.last_used_at.is_(None), _K.last_used_at <= stale_before)
        async with self._db.begin() as conn:
            await conn.execute(update(api_keys).where(_K.id == key.id, stale).values(last_used_at=now))

    async def _own(self, conn: AsyncConnection, account_id: str, key_id: str) -> ApiKey:
        wanted = select(api_keys).where(_K.id == key_id, _K.account_id == account_id).with_for_update()
        row = (await conn.execute(wanted)).mappings().first()
        if row is None:
            raise ApiError(ErrorCode.API_KEY_NOT_FOUND)
        return _from_row(row)

    async def _insert(
        self,
        conn: AsyncConnection,
        account_id: str,
        name: str,
        mode: KeyMode,
        scopes: Collection[Scope],
        expires_at: datetime | None,
        secret: str,
    ) -> ApiKey:
        now = self._clock()
        # The account's row is the lock that keeps two of these from both taking the last place.
        await conn.execute(select(accounts.c.id).where(accounts.c.id == account_id).with_for_update())
        active = select(func.count()).select_from(api_keys).where(_K.account_id == account_id, _active(now))
        if (await conn.execute(active)).scalar_one() >= MAX_ACTIVE_KEYS:
            raise ApiError(
                ErrorCode.LIMIT_REACHED, f"an account has at most {MAX_ACTIVE_KEYS} active API keys: revoke one first"
            )
        row: dict[str, Any] = {
            "id": new_id("key"),
            "account_id": account_id,
            "name": name,
            "hint": key_format.hint(secret),
            "mode": mode,
            "scopes": sorted(scopes),
            "created_at": now,
            "expires_at": expires_at,
            "revoked_at": None,
            "last_used_at": None,
            "successor_id": None,
        }
        await conn.execute(insert(api_keys).values(**row, key_hash=self.digest(secret)))
        return _from_row(row)


def _active(now: datetime) -> Any:
    return and_(_K.revoked_at.is_(None), or_(_K.expires_at.is_(None), _K.expires_at > now))


def _refuse_rotation(key: ApiKey, now: datetime) -> None:
    status = key.status(now)
    if status != "active":
        raise ApiError(ErrorCode.API_KEY_INACTIVE, f"this API key is {status}: make a new one")
    if key.successor_id is not None:
        raise ApiError(ErrorCode.API_KEY_INACTIVE, "this API key was rotated before: rotate its successor")


def _from_row(row: RowMapping | dict[str, Any]) -> ApiKey:
    fields: dict[str, Any] = {name: row[name] for name in ApiKey.__slots__}
    # A scope that a later version wrote and this one does not know grants nothing here.
    known = frozenset(Scope(scope) for scope in fields.pop("scopes") if scope in set(Scope))
    return ApiKey(**fields, scopes=known)
