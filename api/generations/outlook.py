"""What a client is told of its generation's future: the place in the line and the seconds until it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.generations.backlog_sql import load
from api.generations.starts import AWAKE, Start
from api.store.database import Database
from api.store.schema import accounts, generations
from autoscaling.backlog import (
    Backlog,
    Line,
    Rules,
    Work,
    ahead_of,
    left,
    tier_ahead,
)
from autoscaling.starting import Expected
from autoscaling.waits import own_wait_s, wait_s

MAX_AGE = timedelta(milliseconds=250)
_G = generations.c
_ACTIVE = (
    select(
        *(_G.id, _G.state, _G.mode, _G.model_id, _G.cost_steps, _G.num_tracks, _G.duration_s),
        *(_G.started_at, _G.deadline_at, accounts.c.tier.label("account_tier"), accounts.c.virtual_s),
    )
    .join(accounts, accounts.c.id == _G.account_id)
    .where(_G.account_id == bindparam("account_id"), _G.state.in_(("queued", "running", "cancelling")))
)


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
    def mode(self) -> str: ...
    @property
    def deadline_at(self) -> datetime: ...
    @property
    def available_at(self) -> datetime: ...
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
    """The backlog as this process last saw it: asked for at every request, read at most four times a second.

    Args:
        starting: says which replicas of a model start.
    """

    def __init__(self, starting: Callable[[str], Sequence[Expected]] = lambda _model_id: ()) -> None:
        self._starting = starting
        self._last: Backlog | None = None
        self._reading = asyncio.Lock()

    def fresh(self, now: datetime) -> Backlog | None:
        """What was read at most 250 ms ago."""
        last = self._last
        # Younger than nothing: the clock was set back.
        return last if last is not None and timedelta(0) <= now - last.taken_at <= MAX_AGE else None

    async def refresh(self, db: Database, now: datetime) -> None:
        """Read it beside the writers if it is not fresh, so that no transaction has to; one reads, the others wait."""
        async with self._reading:
            if self.fresh(now) is None:
                async with db.read() as conn:
                    await self._read(conn, now)

    async def get(self, conn: AsyncConnection, now: datetime) -> Backlog:
        """Three queries, or none."""
        if (fresh := self.fresh(now)) is not None:
            return fresh
        return await self._read(conn, now)

    async def _read(self, conn: AsyncConnection, now: datetime) -> Backlog:
        read = await load(conn, now)
        models = {name: replace(each, starting=self._starting(name)) for name, each in read.models.items()}
        return self.seen(replace(read, models=models))

    def seen(self, backlog: Backlog) -> Backlog:
        """Take this as the newest."""
        self._last = backlog
        return backlog

    def add(self, model_id: str, tier: str, more: Line) -> None:
        """Count what this process has just let in, so that a burst between two readings is seen."""
        if self._last is None:
            return
        model = self._last.of(model_id)
        line = model.line(tier, more.account_id)
        if line is not None:
            more = replace(more, work=line.work + more.work, audio_s=line.audio_s + more.audio_s)
        lines = {**model.lines, tier: {**model.lines.get(tier, {}), more.account_id: more}}
        grown = {**self._last.models, model_id: replace(model, lines=lines)}
        self._last = replace(self._last, models=grown)


async def outlook(
    conn: AsyncConnection, subject: Subject, backlog: Backlog, rules: Rules, now: datetime, start: Start = AWAKE
) -> Outlook:
    """Place and time of one generation; one query if it waits, none otherwise.

    Args:
        start: when a replica of its model will be there, if none is.
    """
    model = backlog.of(subject.model_id)
    if subject.state in {"running", "cancelling"}:
        if model.capacity is None:
            return Outlook()
        began_at = now if start.in_s > 0 else start.began(subject.started_at)
        steps = left(model.capacity, subject.cost_steps, subject.num_tracks, began_at, now)
        return Outlook(None, start.in_s + model.capacity.run_s(steps, subject.num_tracks))
    if subject.state != "queued":
        return Outlook()
    own = await _own(conn, subject, backlog, now)
    rule = rules.get(own.tier)
    if rule is None:  # an operator took the account's tier out of the file: the queue does not serve it
        return Outlook()
    others = tier_ahead(own.tier, subject.account_id, own.virtual_s + rule.charge_s(own.audio_s), model, rules)
    ahead = own.work + others
    position = 1 + ahead_of(own.tier, ahead, model, rules).generations
    wait = wait_s(own.tier, ahead, subject.num_tracks, model, rules)
    if wait is None or model.capacity is None:
        return Outlook(position, None)
    pause_s = (subject.available_at - now).total_seconds()  # between two attempts, whoever else waits
    wait = max(wait, own_wait_s(own.running_s, own.ahead_s, rule.running), pause_s)
    return Outlook(position, start.in_s + wait + model.capacity.run_s(subject.cost_steps, subject.num_tracks))


@dataclass(slots=True)
class _Own:
    """What the subject's own account has under way, and has waiting ahead of the subject.

    Attributes:
        running_s: seconds left of each that runs, of whatever model.
        ahead_s: seconds that each will take that waits ahead, of whatever model.
        work, audio_s: of those that wait ahead for the same model.
    """

    tier: str
    virtual_s: float
    running_s: list[float] = field(default_factory=list)
    ahead_s: list[float] = field(default_factory=list)
    work: Work = field(default_factory=Work)
    audio_s: float = 0.0


async def _own(conn: AsyncConnection, subject: Subject, backlog: Backlog, now: datetime) -> _Own:
    active = (await conn.execute(_ACTIVE, {"account_id": subject.account_id})).all()
    if not active:  # it has just ended
        return _Own(subject.tier, 0.0)
    own = _Own(active[0].account_tier, active[0].virtual_s)
    mine = _order(subject.mode, subject.deadline_at, subject.id)
    for row in active:
        capacity = backlog.of(row.model_id).capacity
        if row.state != "queued":
            if capacity is not None:
                steps = left(capacity, row.cost_steps, row.num_tracks, row.started_at, now)
                own.running_s.append(capacity.run_s(steps, row.num_tracks))
        elif _order(row.mode, row.deadline_at, row.id) < mine:
            if capacity is not None:
                own.ahead_s.append(capacity.run_s(row.cost_steps, row.num_tracks))
            if row.model_id == subject.model_id:
                own.work += Work(row.cost_steps, row.num_tracks, 1)
                own.audio_s += row.duration_s * row.num_tracks
    return own


def _order(mode: str, deadline_at: datetime, generation_id: str) -> tuple[bool, datetime, str]:
    """As ``autoscaling.fairness`` orders the generations of one account."""
    return (mode != "stream", deadline_at, generation_id)
