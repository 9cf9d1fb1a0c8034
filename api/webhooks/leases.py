"""Which deliveries are sent next, and by whom: leased rows, fair between endpoints and between accounts.

A lease is longer than an attempt can last. A worker that dies keeps nothing: its leases run out, and the deliveries are
sent again, by whichever worker comes first, with the id that they had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, func, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.ids import new_id
from api.store.database import Database
from api.store.schema import webhook_deliveries as table
from api.webhooks.endpoints import at_rest

# What an attempt may take beyond the receiver's time: opening the secret, and writing down what came of it.
LEASE_MARGIN_S: Final = 45.0
_MAX_CANDIDATES: Final = 1000
# Any number that nothing else in this database locks: "webhooks" on a telephone's keys.
_LEASING: Final = 93_246_657

# Deliveries that wait for each other's place: those of an endpoint, and all of an account that have none.
_LANE: Final = func.coalesce(table.c.endpoint_id, table.c.account_id)


@dataclass(frozen=True, slots=True)
class Share:
    """How many may be in flight at once, over all workers.

    Attributes:
        lane: to one endpoint, so that a slow one holds up nobody else.
        account: of one account, so that many slow ones do not either.
    """

    lane: int
    account: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A delivery that this worker, and nobody else, may send until the lease runs out.

    Attributes:
        owner: of this very lease, so that a worker that was too slow cannot write into the next one.
        attempts: made before this one, since it was created or replayed.
    """

    id: str
    owner: str
    account_id: str
    endpoint_id: str | None
    event_id: str
    event_type: str
    url: str
    body: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Candidate:
    id: str
    account_id: str
    lane: str


def choose(candidates: Iterable[Candidate], in_flight: Iterable[Candidate], share: Share, free: int) -> list[str]:
    """The ids to send now.

    Args:
        candidates: in the order they should go.
        in_flight: what is being sent, by any worker.
        free: how many this worker can take.
    """
    flying = list(in_flight)
    lanes = Counter(candidate.lane for candidate in flying)
    of_accounts = Counter(candidate.account_id for candidate in flying)
    chosen: list[str] = []
    for candidate in candidates:
        if len(chosen) == free:
            break
        if lanes[candidate.lane] < share.lane and of_accounts[candidate.account_id] < share.account:
            lanes[candidate.lane] += 1
            of_accounts[candidate.account_id] += 1
            chosen.append(candidate.id)
    return chosen


async def lease_due(db: Database, share: Share, free: int, now: datetime, lease_s: float) -> list[Lease]:
    """Lease up to ``free`` deliveries that are due."""
    # A long backlog is ranked where it holds up no writer; what changed since then is seen below.
    async with db.read() as conn:
        candidates = await _candidates(conn, _due(now, share.lane))
    if not candidates or free < 1:
        return []
    async with db.begin() as conn:
        if conn.dialect.name == "postgresql":
            # One at a time, as on SQLite: two that count the same free places would both take them.
            await conn.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LEASING})
        flying = select(table.c.id, table.c.account_id, _LANE.label("lane")).where(
            table.c.state == "pending", table.c.lease_expires_at > now
        )
        chosen = choose(candidates, await _candidates(conn, flying), share, free)
        owner = new_id("lse")
        taken = await conn.execute(
            update(table)
            .where(table.c.id.in_(chosen), table.c.state == "pending", table.c.next_attempt_at <= now, at_rest(now))
            .values(lease_owner=owner, lease_expires_at=now + timedelta(seconds=lease_s))
            .returning(*(table.c[name] for name in _LEASED))
        )
        return [Lease(owner=owner, **row) for row in taken.mappings()]


_LEASED: Final = ("id", "account_id", "endpoint_id", "event_id", "event_type", "url", "body", "attempts")


def _due(now: datetime, per_lane: int) -> Select[Any]:
    """The first few of each lane; all lanes' firsts, then all lanes' seconds …"""
    rank = func.row_number().over(partition_by=_LANE, order_by=(table.c.next_attempt_at, table.c.id)).label("rank")
    ranked = (
        select(table.c.id, table.c.account_id, _LANE.label("lane"), rank, table.c.next_attempt_at)
        .where(table.c.state == "pending", table.c.next_attempt_at <= now)
        .where(or_(table.c.lease_expires_at.is_(None), table.c.lease_expires_at <= now))
        .subquery()
    )
    return (
        select(ranked.c.id, ranked.c.account_id, ranked.c.lane)
        .where(ranked.c.rank <= per_lane)
        .order_by(ranked.c.rank, ranked.c.next_attempt_at, ranked.c.id)
        .limit(_MAX_CANDIDATES)
    )


async def _candidates(conn: AsyncConnection, wanted: Select[Any]) -> list[Candidate]:
    return [Candidate(*row) for row in await conn.execute(wanted)]
