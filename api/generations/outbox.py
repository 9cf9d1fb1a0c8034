"""Work that a transaction leaves behind, done afterwards by leased workers, at least once.

A handler may be called again with the same payload: after a crash, or when its own success could not be written down.
What it does must therefore be the same when done twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.typing import FilteringBoundLogger

from api.clock import Clock
from api.ids import new_id
from api.store.database import Database
from api.store.errors import StoreError
from api.store.schema import outbox

WEBHOOK_EVENT = "webhook.event"
OBJECT_DELETE = "object.delete"

Handler = Callable[[Mapping[str, Any]], Awaitable[None]]
"""Does the work of one entry. Whatever it raises, the entry is kept and tried again later."""

BATCH = 32
LEASE_S = 30.0
HANDLER_TIMEOUT_S = 20.0  # less than the lease, so that no two workers do the same entry at once
POLL_S = 0.5
_BACKOFF_S = (1.0, 2.0, 5.0, 15.0, 60.0, 300.0)


@dataclass(frozen=True, slots=True)
class Entry:
    id: int
    kind: str
    payload: Mapping[str, Any]
    attempts: int


async def put(
    conn: AsyncConnection, kind: str, payload: Mapping[str, Any], now: datetime, due: datetime | None = None
) -> None:
    """Leave work behind, in the transaction that makes it necessary.

    Args:
        due: when it may be done; left out: now.
    """
    await conn.execute(
        insert(outbox).values(kind=kind, payload=dict(payload), created_at=now, available_at=due or now, attempts=0)
    )


async def lease(
    conn: AsyncConnection, owner: str, kinds: tuple[str, ...], now: datetime, limit: int = BATCH
) -> list[Entry]:
    """Take the oldest entries that are due and that nobody else holds."""
    due = (
        select(outbox.c.id)
        .where(
            outbox.c.available_at <= now,
            outbox.c.kind.in_(kinds),
            or_(outbox.c.lease_expires_at.is_(None), outbox.c.lease_expires_at <= now),
        )
        .order_by(outbox.c.available_at, outbox.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    taken = await conn.execute(
        update(outbox)
        .where(outbox.c.id.in_(due.scalar_subquery()))
        .values(lease_owner=owner, lease_expires_at=now + timedelta(seconds=LEASE_S), attempts=outbox.c.attempts + 1)
        .returning(outbox.c.id, outbox.c.kind, outbox.c.payload, outbox.c.attempts)
    )
    return sorted((Entry(*row) for row in taken), key=lambda entry: entry.id)


async def done(conn: AsyncConnection, owner: str, entry_id: int) -> None:
    await conn.execute(delete(outbox).where(outbox.c.id == entry_id, outbox.c.lease_owner == owner))


async def again(conn: AsyncConnection, owner: str, entry: Entry, now: datetime) -> None:
    """Give an entry back, to be tried later: longer each time, and for ever."""
    wait_s = _BACKOFF_S[min(entry.attempts, len(_BACKOFF_S)) - 1]
    await conn.execute(
        update(outbox)
        .where(outbox.c.id == entry.id, outbox.c.lease_owner == owner)
        .values(lease_owner=None, lease_expires_at=None, available_at=now + timedelta(seconds=wait_s))
    )


class OutboxRelay:
    """Does what lies in the outbox, for as long as it runs. Any number of them may run at once.

    Args:
        handlers: kind → what does it; entries of other kinds are left for others.
    """

    def __init__(self, db: Database, handlers: Mapping[str, Handler], clock: Clock, log: FilteringBoundLogger) -> None:
        self._db = db
        self._handlers = dict(handlers)
        self._clock = clock
        self._log = log
        self._owner = new_id("rly")
        self._woken = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """Something was put: look now."""
        self._woken.set()

    async def run(self) -> None:
        """Until stopped. A database that is away is waited for."""
        while not self._stopping:
            self._woken.clear()
            try:
                while await self.relay_once() == BATCH:
                    pass
            except (StoreError, SQLAlchemyError) as error:
                self._log.warning("outbox_waits_for_the_database", error=str(error))
            await self._pause()

    async def stop(self) -> None:
        """Take nothing more; entries in hand are finished by ``run`` before it returns."""
        self._stopping = True
        self._woken.set()

    async def relay_once(self) -> int:
        """One batch; says how many entries it took."""
        async with self._db.begin() as conn:
            entries = await lease(conn, self._owner, tuple(self._handlers), self._clock())
        # What a handler raises is its entry's own affair: it comes back as a value, and the entry stays.
        outcomes = await asyncio.gather(*(self._handle(entry) for entry in entries), return_exceptions=True)
        if entries:
            async with self._db.begin() as conn:
                for entry, outcome in zip(entries, outcomes, strict=True):
                    await self._settle(conn, entry, outcome)
        return len(entries)

    async def _handle(self, entry: Entry) -> None:
        async with asyncio.timeout(HANDLER_TIMEOUT_S):
            await self._handlers[entry.kind](entry.payload)

    async def _settle(self, conn: AsyncConnection, entry: Entry, outcome: BaseException | None) -> None:
        if outcome is None:
            await done(conn, self._owner, entry.id)
            return
        self._log.warning(
            "outbox_entry_failed", kind=entry.kind, entry=entry.id, attempts=entry.attempts, error=repr(outcome)
        )
        await again(conn, self._owner, entry, self._clock())

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._woken.wait()
        except TimeoutError:
            return
