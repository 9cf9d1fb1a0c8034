"""Erasing an account: first in one transaction everything that could still be used, then the rest in small ones.

The first transaction closes the account, ends its sessions and keys, cancels what is queued or running, and deletes its
data keys, with which all of its stored audio becomes unreadable. It also leaves a sweep behind in the outbox, due when
the last request that was authenticated before has ended: a crash in between leaves nothing undone, and a generation
that was accepted at the same moment is found then.

What stays is what accounting needs: the account's row without a person in it, counters per window, and for each
generation and track what was made, when, and what it cost. Every other table with an ``account_id``, today's and those
to come, is emptied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Column, Row, String, Table, Text, delete, insert, null, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.clock import Clock
from api.generations import outbox, states
from api.generations.states import Change
from api.store.database import Database
from api.store.schema import accounts, generations, metadata, tracks, usage_windows
from api.store.schema import outbox as outbox_table

ACCOUNT_SWEEP: Final = "account.sweep"
SWEEP_AFTER = timedelta(seconds=60)
BATCH: Final = 500
_LIVE = ("queued", "running")

# Columns that stay; every other one of these tables is emptied.
_GENERATIONS = """
    id account_id test_mode request_id state version mode tier model_id duration_s num_tracks seed sampling format
    cost_steps created_at available_at expires_at deadline_at attempt lease_owner lease_expires_at cancel_requested_at
    started_at first_audio_at finished_at queue_wait_s real_time_factor quota_windows
"""
_TRACKS = """
    id generation_id account_id position seed state sample_rate channels total_samples model_id created_at finished_at
"""
ACCOUNTING: Final[Mapping[Table, frozenset[str]]] = {
    usage_windows: frozenset(usage_windows.c.keys()),
    generations: frozenset(_GENERATIONS.split()),
    tracks: frozenset(_TRACKS.split()),
}


class Eraser:
    """
    Args:
        on_change: told of every generation that was cancelled here, after the commit.
    """

    def __init__(self, db: Database, clock: Clock, on_change: Callable[[Change], None] = lambda _change: None) -> None:
        self._db = db
        self._clock = clock
        self._on_change = on_change

    async def erase(self, account_id: str) -> None:
        """Close the account for good and remove what it holds. Doing it twice does no harm."""
        now = self._clock()
        async with self._db.begin() as conn:
            if not await self._close(conn, account_id, now):
                return
            cancelled = await _cancel_all(conn, account_id, now)
            await _empty_tables(conn, account_id, now)
            sweep = {"kind": ACCOUNT_SWEEP, "payload": {"account_id": account_id}, "attempts": 0}
            await conn.execute(insert(outbox_table).values(**sweep, created_at=now, available_at=now + SWEEP_AFTER))
        self._tell(cancelled)
        await self.sweep(account_id)

    async def handle(self, payload: Mapping[str, Any]) -> None:
        """The outbox's handler of ``account.sweep``."""
        await self.sweep(payload["account_id"])

    async def sweep(self, account_id: str) -> None:
        """Remove whatever an erased account still holds; of any other one nothing."""
        now = self._clock()
        async with self._db.begin() as conn:
            if not await _is_erased(conn, account_id):
                return
            cancelled = await _cancel_all(conn, account_id, now)
            await _empty_tables(conn, account_id, now)
        self._tell(cancelled)
        for table in (tracks, generations):
            after: str | None = ""
            while after is not None:
                after = await self._blank_batch(table, account_id, after, now)

    def _tell(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._on_change(change)

    async def _close(self, conn: AsyncConnection, account_id: str, now: datetime) -> bool:
        """The account's row is the lock: no generation is accepted and no data key made beside it."""
        closed = await conn.execute(
            update(accounts)
            .where(accounts.c.id == account_id, accounts.c.status != "erased")
            .values(email=None, name="", password_hash=None, status="erased", erased_at=now)
        )
        return closed.rowcount > 0

    async def _blank_batch(self, table: Table, account_id: str, after: str, now: datetime) -> str | None:
        """Up to 500 rows, by their ids; returns the last of them."""
        wanted = select(table).where(table.c.account_id == account_id, table.c.id > after).order_by(table.c.id)
        async with self._db.begin() as conn:
            if not await _is_erased(conn, account_id):
                return None
            rows = (await conn.execute(wanted.limit(BATCH))).all()
            await _delete_objects(conn, rows, now)
            ids = [row.id for row in rows]
            if ids:
                await conn.execute(update(table).where(table.c.id.in_(ids)).values(_blanks(table)))
        return ids[-1] if ids else None


async def _is_erased(conn: AsyncConnection, account_id: str) -> bool:
    status = select(accounts.c.status).where(accounts.c.id == account_id).with_for_update(read=True)
    return (await conn.execute(status)).scalar_one_or_none() == "erased"


async def _cancel_all(conn: AsyncConnection, account_id: str, now: datetime) -> list[Change]:
    live = select(generations.c.id).where(generations.c.account_id == account_id, generations.c.state.in_(_LIVE))
    asked = [await states.request_cancel(conn, row.id, account_id, now) for row in (await conn.execute(live)).all()]
    return [change for change in asked if change is not None]


async def _empty_tables(conn: AsyncConnection, account_id: str, now: datetime) -> None:
    for table in reversed(metadata.sorted_tables):  # those that refer to others first
        if "account_id" not in table.c or table in ACCOUNTING:
            continue
        if "object_key" in table.c:
            await _delete_objects(conn, (await conn.execute(_mine(table, account_id))).all(), now)
        await conn.execute(delete(table).where(table.c.account_id == account_id))


def _mine(table: Table, account_id: str) -> Any:
    return select(table.c.object_key).where(table.c.account_id == account_id)


async def _delete_objects(conn: AsyncConnection, rows: Sequence[Row[Any]], now: datetime) -> None:
    """Unreadable already, but space is space."""
    for row in rows:
        object_key = getattr(row, "object_key", None)
        if object_key is not None:
            await outbox.put(conn, outbox.OBJECT_DELETE, {"object_key": object_key}, now)


def _blanks(table: Table) -> dict[str, Any]:
    return {column.name: _blank(column) for column in table.c if column.name not in ACCOUNTING[table]}


def _blank(column: Column[Any]) -> Any:
    if column.nullable:
        return null()  # SQL's, not JSON's
    return "" if isinstance(column.type, String | Text) else {}
