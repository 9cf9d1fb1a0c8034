"""Who works on what: leases taken in fair order, extended, and taken from workers that are not heard of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, and_, bindparam, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.generations import states
from api.generations.turns import first_tenants
from api.generations.view import LEASED, State
from api.limits.sql import insert
from api.store.schema import accounts, generations, workers
from autoscaling.fairness import Shares, Slots, choose

MAX_AT_ONCE = 16
"""Leases per transaction: it holds SQLite's only write lock meanwhile."""
_MAX_MISSES = 4


@dataclass(frozen=True, slots=True)
class Held:
    """What SQL says of a lease that was just extended."""

    generation_id: str
    version: int
    state: State


@dataclass(frozen=True, slots=True)
class Overdue:
    """A generation that somebody has to end or to take back.

    Attributes:
        charge_audio_s: audio-seconds of all its tracks.
    """

    generation_id: str
    account_id: str
    tier: str
    state: State
    attempt: int
    charge_audio_s: float


async def may_lease(conn: AsyncConnection, owner: str, model_id: str, slots: Slots, now: datetime) -> bool:
    """Whether it is worth a write transaction to look closer: something waits, of whatever model, and there is room.

    Args:
        slots: of all workers together; taken are those of this one.
    """
    row = (await conn.execute(_OUTLOOK, {"owner": owner, "model_id": model_id, "now": now})).one()
    return bool(row.queued) and int(row.others) < slots.free


async def acquire(
    conn: AsyncConnection,
    owner: str,
    model_id: str,
    slots: Slots,
    shares: Shares,
    now: datetime,
    *,
    lease_s: float,
) -> list[states.Lease]:
    """Take what is next for a model until its slots are full, with what all workers hold of it.

    Args:
        slots: of all workers together; taken are those of this one, as it knows itself. What the others hold is
            counted here, while nobody else leases.
        shares: its books are changed: throw them away if the transaction fails.
    """
    slots = await _beside_others(conn, owner, model_id, slots, now)
    taken: list[states.Lease] = []
    misses = 0
    while slots.free > 0 and len(taken) < MAX_AT_ONCE and misses < _MAX_MISSES:
        tenants = await first_tenants(conn, model_id, shares.rules, now)
        choice = choose(tenants, shares, slots)
        if choice is None:
            break
        tenant, waiting = choice
        charge_s = shares.rules[tenant.tier].charge_s(waiting.audio_s)
        lease = await states.start(
            conn,
            waiting.generation_id,
            tenant.account_id,
            owner,
            now,
            charge_s=charge_s,
            lease_s=lease_s,
            running_limit=shares.rules[tenant.tier].running,
        )
        if lease is None:  # another worker was faster
            misses += 1
            continue
        shares.served(tenant.tier, waiting.audio_s, {each.tier for each in tenants})
        slots = replace(slots, free=max(0, slots.free - waiting.num_tracks))
        taken.append(lease)
    return taken


async def _beside_others(conn: AsyncConnection, owner: str, model_id: str, slots: Slots, now: datetime) -> Slots:
    """What the other workers leave of the slots.

    SQLite has one writer. On PostgreSQL two workers would both count before either has leased, so they take turns; for
    all models together, since each locks accounts one after the other, and two in another order would wait for ever.
    """
    if conn.dialect.name != "sqlite":
        await conn.execute(_TURN)
    others = await conn.scalar(_OTHERS, {"owner": owner, "model_id": model_id, "now": now})
    return replace(slots, free=max(0, slots.free - int(others or 0)))


def _others() -> Select[Any]:
    """Tracks of a model in the hands of other workers. Who is not heard of has stopped when its leases have ended."""
    table = generations.c
    return select(func.coalesce(func.sum(table.num_tracks), 0)).where(
        table.state.in_(LEASED),
        table.lease_expires_at > bindparam("now"),
        table.model_id == bindparam("model_id"),
        table.lease_owner != bindparam("owner"),
    )


def _outlook() -> Select[Any]:
    table = generations.c
    queued = exists().where(table.state == State.QUEUED, table.expires_at > bindparam("now"))
    return select(queued.label("queued"), _OTHERS.scalar_subquery().label("others"))


# Built once: it takes longer to build than to execute.
_OTHERS = _others()
_OUTLOOK = _outlook()
_TURN = select(func.pg_advisory_xact_lock(0x6C65617365))  # "lease"


# ---------------------------------------------------------------------------------------- while it lasts
async def extend(
    conn: AsyncConnection, owner: str, generation_ids: Iterable[str], now: datetime, *, lease_s: float
) -> list[Held]:
    """All of a worker's leases in one statement; what is not among the answers is lost."""
    table = generations.c
    kept = await conn.execute(
        update(generations)
        .where(table.id.in_(list(generation_ids)), table.lease_owner == owner, table.state.in_(LEASED))
        .values(lease_expires_at=now + timedelta(seconds=lease_s))
        .returning(table.id, table.version, table.state)
    )
    return [Held(row.id, row.version, State(row.state)) for row in kept]


async def overdue(conn: AsyncConnection, now: datetime, limit: int = 50) -> list[Overdue]:
    """Queued ones that have waited too long, and leases that have run out."""
    table = generations.c
    audio_s = table.duration_s * table.num_tracks
    # The tier is the account's of today, by which the queue charges.
    columns = (table.id, table.account_id, accounts.c.tier, table.state, table.attempt, audio_s)
    conditions = (
        and_(table.state == State.QUEUED, table.expires_at <= now),
        and_(table.state.in_(LEASED), table.lease_expires_at <= now),
    )
    found: list[Overdue] = []
    for condition in conditions:
        found_now = select(*columns).join(accounts, accounts.c.id == table.account_id).where(condition).limit(limit)
        rows = await conn.execute(found_now)
        found += [Overdue(row[0], row[1], row[2], State(row[3]), row[4], row[5]) for row in rows]
    return found


async def report(
    conn: AsyncConnection, owner: str, started_at: datetime, now: datetime, capacity: Mapping[str, Any]
) -> None:
    """A worker's sign of life, and what it can do."""
    row = {"id": owner, "started_at": started_at, "seen_at": now, "capacity": dict(capacity)}
    fresh = {"seen_at": now, "capacity": dict(capacity)}
    await conn.execute(
        insert(conn, workers).values(row).on_conflict_do_update(index_elements=[workers.c.id], set_=fresh)
    )
