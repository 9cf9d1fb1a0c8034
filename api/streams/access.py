"""Whether those who listen might still come in: asked again and again for as long as their streams are open.

A credential is checked when a stream is opened, and a stream may stay open for longer than the credential is good. So
one task per process asks, for all of its listeners in a few queries, whether their accounts may still act, their API
keys still work and their sessions still last; a stream whose answer is no ends with the error that a new request would
be refused with. (That an access token runs out meanwhile ends nothing: its session vouches for it.)
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from sqlalchemy import Row, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.typing import FilteringBoundLogger

from api.auth.challenge import refused
from api.auth.principal import Principal
from api.clock import Clock
from api.errors import ApiError, ErrorCode
from api.store.database import Database
from api.store.errors import StoreError
from api.store.schema import accounts, api_keys, refresh_tokens
from api.tasks import stop

BATCH: Final = 500
"""Credentials per round of queries."""

_ROOM_AGAIN_S: Final = 5.0

Lost = asyncio.Future[None]
"""Never has a result. Its error, see ``refusal``, is why the listener would not be let in any more."""
Holding = AbstractContextManager[Lost]


@dataclass(frozen=True, slots=True)
class Access:
    """By what a listener was let in.

    Attributes:
        session_id: of a login; None: an API key, or nothing at all on a developer's own machine.
    """

    account_id: str
    api_key_id: str | None = None
    session_id: str | None = None

    @classmethod
    def of(cls, principal: Principal, session_id: str | None) -> Self:
        return cls(principal.account_id, principal.api_key_id, session_id)


class AccessChecks:
    """Of one process. Runs while there are listeners.

    Args:
        every_s: seconds between two rounds: the longest that a listener outlives its credential, but for the queries.
    """

    def __init__(self, db: Database, clock: Clock, every_s: float, log: FilteringBoundLogger) -> None:
        self._db, self._clock, self._every_s, self._log = db, clock, every_s, log
        self._held: dict[Access, set[Lost]] = {}
        self._accounts: Counter[str] = Counter()
        self._running: asyncio.Task[None] | None = None

    @property
    def listeners(self) -> int:
        """How many there are."""
        return sum(map(len, self._held.values()))

    def check_room(self, account_id: str, most: int | None) -> None:
        """Before a stream is opened: one account must not take every place that a server has for listeners.

        Args:
            most: streams of an account that this process holds open at once; None: without limit.

        Raises:
            ApiError: rate_limited.
        """
        if most is not None and self._accounts[account_id] >= most:
            raise ApiError(
                ErrorCode.RATE_LIMITED,
                f"this account listens to {most} streams of this server already, as many as its tier may: close one",
                details={"policy": "listeners", "limit": most},
                retry_after_s=_ROOM_AGAIN_S,
            )

    @contextmanager
    def hold(self, access: Access) -> Iterator[Lost]:
        """As long as a stream is open; it ends when what this yields is done."""
        lost: Lost = asyncio.get_running_loop().create_future()
        self._held.setdefault(access, set()).add(lost)
        self._accounts[access.account_id] += 1
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run(), name="access checks")
        try:
            yield lost
        finally:
            self._held[access].discard(lost)
            if not self._held[access]:
                del self._held[access]
            self._accounts[access.account_id] -= 1
            if not self._accounts[access.account_id]:
                del self._accounts[access.account_id]
            if not lost.cancel():
                lost.exception()  # seen

    async def close(self) -> None:
        """Check no more."""
        running, self._running = self._running, None
        if running is not None:
            await stop(running)

    async def _run(self) -> None:
        while self._held:
            await asyncio.sleep(self._every_s)
            try:
                await self._check(list(self._held))
            except (StoreError, SQLAlchemyError) as error:
                # Nobody is let in meanwhile either, and the next round asks again.
                self._log.warning("access_checks_wait_for_the_database", error=str(error))

    async def _check(self, held: Sequence[Access]) -> None:
        for first in range(0, len(held), BATCH):
            async with self._db.read() as conn:
                standing = await _Standing.read(conn, held[first : first + BATCH])
            for access in held[first : first + BATCH]:
                for lost in self._held.get(access, ()):
                    error = standing.refusal(access, self._clock())
                    if error is not None and not lost.done():
                        lost.set_exception(error)


@dataclass(frozen=True, slots=True)
class _Standing:
    """What the database says of some accesses.

    Attributes:
        accounts: id → status.
        keys: id → its row.
        sessions: id → when the last of its tokens that were not revoked expires.
    """

    accounts: Mapping[str, str]
    keys: Mapping[str, Row[*tuple[Any, ...]]]
    sessions: Mapping[str, datetime]

    @classmethod
    async def read(cls, conn: AsyncConnection, wanted: Sequence[Access]) -> Self:
        account, key, token = accounts.c, api_keys.c, refresh_tokens.c
        statuses = select(account.id, account.status).where(account.id.in_({each.account_id for each in wanted}))
        keys = select(key.id, key.revoked_at, key.expires_at).where(
            key.id.in_({each.api_key_id for each in wanted if each.api_key_id is not None})
        )
        sessions = (
            select(token.family_id, func.max(token.expires_at).label("until"))
            .where(
                token.family_id.in_({each.session_id for each in wanted if each.session_id is not None}),
                token.revoked_at.is_(None),
            )
            .group_by(token.family_id)
        )
        return cls(
            {row.id: row.status for row in await conn.execute(statuses)},
            {row.id: row for row in await conn.execute(keys)},
            {row.family_id: row.until for row in await conn.execute(sessions)},
        )

    def refusal(self, access: Access, now: datetime) -> ApiError | None:
        """None: let in."""
        status = self.accounts.get(access.account_id, "erased")
        if status == "erased":
            return refused(ErrorCode.CREDENTIALS_REVOKED, "the account of this credential is gone")
        if status != "active":
            return ApiError(ErrorCode.ACCOUNT_SUSPENDED)
        if access.api_key_id is not None:
            key = self.keys.get(access.api_key_id)
            if key is None or key.revoked_at is not None:
                return refused(ErrorCode.CREDENTIALS_REVOKED, "this API key was revoked: use another one")
            return _unless_past(key.expires_at, now, "this API key has expired: use another one")
        if access.session_id is not None:
            if access.session_id not in self.sessions:
                return refused(ErrorCode.CREDENTIALS_REVOKED, "this session has ended: log in again")
            return _unless_past(self.sessions[access.session_id], now, "this session has expired: log in again")
        return None


def refusal(lost: Lost) -> ApiError | None:
    """What the listener would be refused with; None: it would not be, as far as was seen."""
    error = lost.exception() if lost.done() and not lost.cancelled() else None
    assert error is None or isinstance(error, ApiError), "nothing else is set"
    return error


def _unless_past(expires_at: datetime | None, now: datetime, message: str) -> ApiError | None:
    if expires_at is None or expires_at > now:
        return None
    return refused(ErrorCode.CREDENTIALS_EXPIRED, message)
