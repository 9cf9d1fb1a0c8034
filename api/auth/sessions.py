"""Sessions: one login and all that follows from it.

For programs: an opaque refresh token, good for one use. Using it gives its successor; using it once more means that two
parties hold it, so the whole session ends. One exception: within ten seconds, and only while nobody has used the
successor, the same successor is given again, since an answer can get lost on its way. Nothing needs to remember the
successor for that: it is an HMAC of its predecessor.

For browsers: a cookie that stays the same until it expires.

Both are rows of ``refresh_tokens``; ``family_id`` is the session. The database holds HMACs only, and those of cookies
are made with another key, so that neither is accepted in the other's place.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from sqlalchemy import Row, delete, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth.challenge import refused
from api.auth.derivation import Digest
from api.auth.identity import lock_account
from api.clock import Clock
from api.errors import ApiError, ErrorCode
from api.ids import new_id
from api.store.database import Database
from api.store.schema import accounts, refresh_tokens

Transport = Literal["token", "cookie"]

GRACE_S: Final = 10.0
_REFRESH_PREFIX = "rt_tt_"
_COOKIE_PREFIX = "cs_tt_"
_SECRET_BYTES = 32
_KEPT_AFTER_EXPIRY = timedelta(days=1)
_T = refresh_tokens.c


@dataclass(frozen=True, slots=True)
class Session:
    """A session as its holder gets it.

    Attributes:
        token: to refresh with, or the cookie's value.
    """

    id: str
    account_id: str
    token: str
    expires_at: datetime


class Sessions:
    """
    Args:
        secret: of the installation.
        ttl_s: seconds a refresh token or a cookie is good for.
    """

    def __init__(self, db: Database, secret: str, clock: Clock, ttl_s: float) -> None:
        self._db = db
        self._clock = clock
        self._ttl = timedelta(seconds=ttl_s)
        self._digests = {"token": Digest(secret, "refresh-token"), "cookie": Digest(secret, "session-cookie")}
        self._successors = Digest(secret, "refresh-successor")

    async def open(self, account_id: str, transport: Transport) -> Session:
        """A new session; what has long expired of this account's is forgotten on the way."""
        prefix = _REFRESH_PREFIX if transport == "token" else _COOKIE_PREFIX
        token = prefix + secrets.token_urlsafe(_SECRET_BYTES)
        now = self._clock()
        session = Session(new_id("ses"), account_id, token, now + self._ttl)
        async with self._db.begin() as conn:
            forgotten = (_T.account_id == account_id) & (_T.expires_at < now - _KEPT_AFTER_EXPIRY)
            await conn.execute(delete(refresh_tokens).where(forgotten))
            await self._store(conn, session, transport, now)
        return session

    async def refresh(self, token: str) -> Session:
        """The successor of a refresh token.

        Raises:
            ApiError: unknown, expired or revoked; or used before, which ends the session.
        """
        now = self._clock()
        async with self._db.begin() as conn:
            row = await self._locked(conn, token)
            _refuse_dead(row, now)
            successor = self._successor(row, token, now)
            if row.used_at is None:
                row_id = await self._store(conn, successor, "token", now)
                spent = update(refresh_tokens).where(_T.id == row.id).values(used_at=now, successor_id=row_id)
                await conn.execute(spent)
                return successor
            given_until = await self._given_but_unused(conn, row, now)
            if given_until is not None:
                return replace(successor, expires_at=given_until)
            await end(conn, row.family_id, now)
        # Raised outside, or the end of the session would be rolled back.
        raise refused(
            ErrorCode.CREDENTIALS_REVOKED,
            "this refresh token was used before, so someone else may hold it: the session has ended, log in again",
        )

    async def by_cookie(self, conn: AsyncConnection, value: str) -> tuple[str, str, datetime] | None:
        """Session, account and expiry of a live cookie."""
        live = (_T.token_hash == self._digests["cookie"](value)) & _T.revoked_at.is_(None)
        row = (await conn.execute(select(_T.family_id, _T.account_id, _T.expires_at).where(live))).first()
        return (row.family_id, row.account_id, row.expires_at) if row is not None else None

    async def end_by_token(self, token: str) -> None:
        """End the session of a refresh token or cookie, if there is one."""
        hashes = [digest(token) for digest in self._digests.values()]
        wanted = select(_T.family_id, _T.account_id).where(_T.token_hash.in_(hashes))
        async with self._db.read() as conn:
            row = (await conn.execute(wanted)).first()
        if row is not None:
            await self.end_by_id(row.family_id, row.account_id)

    async def end_by_id(self, session_id: str, account_id: str) -> None:
        async with self._db.begin() as conn:
            await lock_account(conn, account_id)
            await end(conn, session_id, self._clock())

    async def _locked(self, conn: AsyncConnection, token: str) -> Row[tuple[object, ...]]:
        mine = _T.token_hash == self._digests["token"](token)
        account_id = (await conn.execute(select(_T.account_id).where(mine))).scalar()
        if account_id is not None:
            await lock_account(conn, account_id)  # the second of two refreshes waits here for the first
        wanted = select(refresh_tokens, accounts.c.status).join(accounts, accounts.c.id == _T.account_id).where(mine)
        row = (await conn.execute(wanted)).first()
        if row is None:
            raise refused(ErrorCode.INVALID_CREDENTIALS, "this refresh token is not known here: log in again")
        return row

    def _successor(self, row: Row[tuple[object, ...]], token: str, now: datetime) -> Session:
        digits = base64.urlsafe_b64encode(self._successors.raw(token)).rstrip(b"=").decode()
        return Session(row.family_id, row.account_id, _REFRESH_PREFIX + digits, now + self._ttl)

    async def _store(self, conn: AsyncConnection, session: Session, transport: Transport, now: datetime) -> str:
        row_id = new_id("rft")
        await conn.execute(
            insert(refresh_tokens).values(
                id=row_id,
                family_id=session.id,
                account_id=session.account_id,
                token_hash=self._digests[transport](session.token),
                created_at=now,
                expires_at=session.expires_at,
            )
        )
        return row_id

    async def _given_but_unused(
        self, conn: AsyncConnection, row: Row[tuple[object, ...]], now: datetime
    ) -> datetime | None:
        """When the successor expires, if it was made just now and nobody has used it."""
        if now - row.used_at > timedelta(seconds=GRACE_S):
            return None
        unused = (_T.id == row.successor_id) & _T.used_at.is_(None)
        return (await conn.execute(select(_T.expires_at).where(unused))).scalar()


async def end(conn: AsyncConnection, session_id: str, now: datetime) -> None:
    """Revoke every token of the session."""
    live = (_T.family_id == session_id) & _T.revoked_at.is_(None)
    await conn.execute(update(refresh_tokens).where(live).values(revoked_at=now))


async def end_all(conn: AsyncConnection, account_id: str, now: datetime) -> None:
    """Revoke every session of the account."""
    live = (_T.account_id == account_id) & _T.revoked_at.is_(None)
    await conn.execute(update(refresh_tokens).where(live).values(revoked_at=now))


async def is_live(conn: AsyncConnection, session_id: str, account_id: str) -> bool:
    live = (_T.family_id == session_id) & (_T.account_id == account_id) & _T.revoked_at.is_(None)
    return bool((await conn.execute(select(exists().where(live)))).scalar_one())


def _refuse_dead(row: Row[tuple[object, ...]], now: datetime) -> None:
    if row.revoked_at is not None or row.status == "erased":
        raise refused(ErrorCode.CREDENTIALS_REVOKED, "this session has ended: log in again")
    if row.expires_at <= now:
        raise refused(ErrorCode.CREDENTIALS_EXPIRED, "this refresh token has expired: log in again")
    if row.status != "active":
        raise ApiError(ErrorCode.ACCOUNT_SUSPENDED)
