"""Sessions: one login and all that follows from it.

For programs: an opaque refresh token, good for one use. Using it gives its successor; using it once more means that two
parties hold it, so the whole session ends. One exception: within ten seconds, and only while nobody has used the
successor, the same successor is given again, since an answer can get lost on its way. Nothing needs to remember the
successor for that: it is an HMAC of its predecessor.

For browsers: a cookie that stays the same until it expires.

Both are rows of ``refresh_tokens``; ``family_id`` is the session. The database holds HMACs only, and those of cookies
are made with another key, so that neither is accepted in the other's place. An HMAC under an earlier secret of the
installation is found as well, and replaced when the token or cookie is used.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from sqlalchemy import Row, delete, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth.challenge import refused
from api.auth.derivation import Digests, SecretKeys
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


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """A session as its cookie shows it.

    Attributes:
        outdated: its HMAC was made with an earlier secret; see ``Sessions.renew``.
    """

    id: str
    account_id: str
    expires_at: datetime
    outdated: bool


class Sessions:
    """
    Args:
        secrets: of the installation.
        ttl_s: seconds a refresh token or a cookie is good for.
    """

    def __init__(self, db: Database, secrets: SecretKeys, clock: Clock, ttl_s: float) -> None:
        self._db = db
        self._clock = clock
        self._ttl = timedelta(seconds=ttl_s)
        self._digests = {"token": Digests(secrets, "refresh-token"), "cookie": Digests(secrets, "session-cookie")}
        self._successors = Digests(secrets, "refresh-successor")

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
            if row.used_at is None:
                return await self._succeed(conn, row, token, now)
            given = await self._given_but_unused(conn, row, token, now)
            if given is not None:
                return given
            await end(conn, row.family_id, now)
        # Raised outside, or the end of the session would be rolled back.
        raise refused(
            ErrorCode.CREDENTIALS_REVOKED,
            "this refresh token was used before, so someone else may hold it: the session has ended, log in again",
        )

    async def by_cookie(self, conn: AsyncConnection, value: str) -> BrowserSession | None:
        """The session of a live cookie."""
        hashes = self._digests["cookie"].every(value)
        live = _T.token_hash.in_(hashes) & _T.revoked_at.is_(None)
        row = (await conn.execute(select(refresh_tokens).where(live))).first()
        if row is None:
            return None
        return BrowserSession(row.family_id, row.account_id, row.expires_at, outdated=row.token_hash != hashes[0])

    async def renew(self, cookie: str) -> None:
        """Store a cookie's HMAC under the current secret."""
        current, *earlier = self._digests["cookie"].every(cookie)
        async with self._db.begin() as conn:
            await conn.execute(update(refresh_tokens).where(_T.token_hash.in_(earlier)).values(token_hash=current))

    async def end_by_token(self, token: str) -> None:
        """End the session of a refresh token or cookie, if there is one."""
        hashes = [found for digests in self._digests.values() for found in digests.every(token)]
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
        mine = _T.token_hash.in_(self._digests["token"].every(token))
        account_id = (await conn.execute(select(_T.account_id).where(mine))).scalar()
        if account_id is not None:
            await lock_account(conn, account_id)  # the second of two refreshes waits here for the first
        wanted = select(refresh_tokens, accounts.c.status).join(accounts, accounts.c.id == _T.account_id).where(mine)
        row = (await conn.execute(wanted)).first()
        if row is None:
            raise refused(ErrorCode.INVALID_CREDENTIALS, "this refresh token is not known here: log in again")
        return row

    async def _succeed(self, conn: AsyncConnection, row: Row[tuple[object, ...]], token: str, now: datetime) -> Session:
        successor = Session(row.family_id, row.account_id, self._successors_of(token)[0], now + self._ttl)
        row_id = await self._store(conn, successor, "token", now)
        # Its second use must still be recognised when the secret that it was stored under has gone.
        spent = {"used_at": now, "successor_id": row_id, "token_hash": self._digests["token"](token)}
        await conn.execute(update(refresh_tokens).where(_T.id == row.id).values(spent))
        return successor

    def _successors_of(self, token: str) -> list[str]:
        """What comes after a token, under each secret."""
        digests = self._successors.every_raw(token)
        return [_REFRESH_PREFIX + base64.urlsafe_b64encode(digest).rstrip(b"=").decode() for digest in digests]

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
        self, conn: AsyncConnection, row: Row[tuple[object, ...]], token: str, now: datetime
    ) -> Session | None:
        """The successor once more, if it was made just now and nobody has used it."""
        if now - row.used_at > timedelta(seconds=GRACE_S):
            return None
        unused = (_T.id == row.successor_id) & _T.used_at.is_(None)
        given = (await conn.execute(select(_T.token_hash, _T.expires_at).where(unused))).first()
        if given is None:
            return None
        # Which of them it was: the secret may have been replaced since.
        made = (each for each in self._successors_of(token) if given.token_hash in self._digests["token"].every(each))
        successor = next(made, None)
        return Session(row.family_id, row.account_id, successor, given.expires_at) if successor is not None else None


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
