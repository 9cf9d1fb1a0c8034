"""The fair queue's books of an account: its virtual clock, whether it waits at all, how many of its own run."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import bindparam, case, exists, false, func, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.generations.view import LEASED, State
from api.store.schema import accounts, generations

LATER = 1e-6
"""Of the clock, for each second: so little stands an account behind one of the same clock that began to wait before it.

Otherwise names would decide, and some would be passed over again and again while others come."""

_PEERS = accounts.alias().c
_WAIT = (_PEERS.tier == accounts.c.tier, _PEERS.waiting == true())
_FLOOR = select(_PEERS.virtual_s).where(*_WAIT).order_by(_PEERS.virtual_s, _PEERS.id).limit(1)
# Said in words: two levels down nothing is correlated by itself, and it would be joined with all accounts there are.
_FIRST = select(_PEERS.id).where(*_WAIT).order_by(_PEERS.virtual_s, _PEERS.id).limit(1).correlate(accounts)
# Grouped, or databases would look for the first from the account's oldest generation on, through all that have ended.
_SINCE = (
    select(func.min(generations.c.created_at))
    .where(generations.c.account_id == _FIRST.scalar_subquery(), generations.c.state == State.QUEUED)
    .group_by(generations.c.account_id)
)
_STANDING = select(
    accounts.c.waiting,
    accounts.c.tier,
    _FLOOR.scalar_subquery().label("floor"),
    _SINCE.scalar_subquery().label("since"),
).where(accounts.c.id == bindparam("account_id"))


async def lock(conn: AsyncConnection, account_id: str) -> None:
    """One transaction at a time for each account. SQLite has no FOR UPDATE and needs none: it has one writer."""
    if conn.dialect.name != "sqlite":
        await conn.execute(select(accounts.c.id).where(accounts.c.id == account_id).with_for_update(key_share=True))


async def charge(conn: AsyncConnection, account_id: str, charge_s: float) -> None:
    """Audio-seconds, weighted; negative ones are taken back."""
    await conn.execute(
        update(accounts).where(accounts.c.id == account_id).values(virtual_s=accounts.c.virtual_s + charge_s)
    )


async def note_waiting(conn: AsyncConnection, account_id: str) -> None:
    """Counted anew each time rather than up and down: it cannot drift."""
    queued = exists().where(generations.c.account_id == account_id, generations.c.state == State.QUEUED)
    await conn.execute(update(accounts).where(accounts.c.id == account_id).values(waiting=queued))


async def running(conn: AsyncConnection, account_id: str) -> int:
    """Generations that a worker holds, of any model."""
    held = (generations.c.account_id == account_id, generations.c.state.in_(LEASED))
    return int((await conn.execute(select(func.count()).select_from(generations).where(*held))).scalar_one())


async def lift(conn: AsyncConnection, account_id: str, now: datetime) -> None:
    """The account begins to wait. Time spent idle is not saved up: its clock starts where those of its tier stand who
    wait already, and behind them, or, if nobody does, where the last one ended."""
    table = accounts.c
    own = (await conn.execute(_STANDING, {"account_id": account_id})).one()
    if own.waiting:
        return
    floor = own.floor
    if floor is None:
        last = select(func.max(table.virtual_s)).where(table.tier == own.tier, table.waiting == false())
        floor = await conn.scalar(last)
    elif own.since is not None:
        floor += LATER * max(0.0, (now - own.since).total_seconds())
    lifted = case((table.virtual_s < floor, floor), else_=table.virtual_s)
    await conn.execute(update(accounts).where(table.id == account_id).values(waiting=True, virtual_s=lifted))
