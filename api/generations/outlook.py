"""What a client is told of its generation's future: the place in the line and the seconds until it is done."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.generations.backlog import Backlog, Shares, Work, ahead_of, left, load, own_wait_s, wait_s
from api.store.schema import generations

MAX_AGE = timedelta(milliseconds=250)


class Subject(Protocol):
    """What must be known of the generation; views and rows both have it."""

    @property
    def id(self) -> str: ...
    @property
    def account_id(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def model_id(self) -> str: ...
    @property
    def tier(self) -> str: ...
    @property
    def num_tracks(self) -> int: ...
    @property
    def cost_steps(self) -> int: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def started_at(self) -> datetime | None: ...


@dataclass(frozen=True, slots=True)
class Outlook:
    """
    Attributes:
        queue_position: 1 is next; None unless queued.
        eta_s: seconds until it is done; None when it has ended, or when no worker is there to ask.
    """

    queue_position: int | None = None
    eta_s: float | None = None


class Backlogs:
    """The backlog as this process last saw it: asked for at every request, read at most four times a second."""

    def __init__(self) -> None:
        self._last: Backlog | None = None

    def fresh(self, now: datetime) -> Backlog | None:
        """What was read at most 250 ms ago."""
        last = self._last
        # Younger than nothing: the clock was set back.
        return last if last is not None and timedelta(0) <= now - last.taken_at <= MAX_AGE else None

    async def get(self, conn: AsyncConnection, now: datetime) -> Backlog:
        """Three queries, or none."""
        if (fresh := self.fresh(now)) is not None:
            return fresh
        return self.seen(await load(conn, now))

    def seen(self, backlog: Backlog) -> Backlog:
        """Take this as the newest."""
        self._last = backlog
        return backlog

    def add(self, model_id: str, tier: str, work: Work) -> None:
        """Count what this process has just let in, so that a burst between two readings is seen."""
        if self._last is not None:
            models = {**self._last.models, model_id: self._last.of(model_id).with_queued(tier, work)}
            self._last = replace(self._last, models=models)


async def outlook(
    conn: AsyncConnection, subject: Subject, places: int, backlog: Backlog, shares: Shares, now: datetime
) -> Outlook:
    """Place and time of one generation.

    Args:
        places: generations that its account may run at the same time.
    """
    model = backlog.of(subject.model_id)
    if subject.state in {"running", "cancelling"}:
        if model.capacity is None:
            return Outlook()
        steps = left(model.capacity, subject.cost_steps, subject.num_tracks, subject.started_at, now)
        return Outlook(None, model.capacity.run_s(steps, subject.num_tracks))
    if subject.state != "queued":
        return Outlook()
    own = await _tier_ahead(conn, subject)
    position = 1 + ahead_of(subject.tier, own, model, shares).generations
    wait = wait_s(subject.tier, own, subject.num_tracks, model, shares)
    if wait is None or model.capacity is None:
        return Outlook(position, None)
    own_wait = await _account_wait_s(conn, subject, places, backlog, now)
    run_s = model.capacity.run_s(subject.cost_steps, subject.num_tracks)
    return Outlook(position, max(wait, own_wait) + run_s)


async def _tier_ahead(conn: AsyncConnection, subject: Subject) -> Work:
    """What waits for the same model in the same tier and came earlier."""
    table = generations.c
    earlier = or_(
        table.created_at < subject.created_at, and_(table.created_at == subject.created_at, table.id < subject.id)
    )
    row = (
        await conn.execute(
            select(
                func.coalesce(func.sum(table.cost_steps), 0),
                func.coalesce(func.sum(table.num_tracks), 0),
                func.count(),
            ).where(table.state == "queued", table.model_id == subject.model_id, table.tier == subject.tier, earlier)
        )
    ).one()
    return Work(float(row[0]), int(row[1]), int(row[2]))


async def _account_wait_s(
    conn: AsyncConnection, subject: Subject, places: int, backlog: Backlog, now: datetime
) -> float:
    """Seconds until the account has a place for it. Models without a known capacity are left out."""
    table = generations.c
    rows = await conn.execute(
        select(table.id, table.state, table.model_id, table.cost_steps, table.num_tracks, table.started_at)
        .where(table.account_id == subject.account_id, table.state.in_(("queued", "running", "cancelling")))
        .where(table.created_at <= subject.created_at)
        .order_by(table.created_at, table.id)
    )
    running_s: list[float] = []
    ahead_s: list[float] = []
    for row in rows:
        capacity = backlog.of(row.model_id).capacity
        if row.id == subject.id:
            break
        if capacity is None:
            continue
        if row.state == "queued":
            ahead_s.append(capacity.run_s(row.cost_steps, row.num_tracks))
        else:
            steps = left(capacity, row.cost_steps, row.num_tracks, row.started_at, now)
            running_s.append(capacity.run_s(steps, row.num_tracks))
    return own_wait_s(running_s, ahead_s, places)
