"""How much work is outstanding, how fast it goes, and so how long a generation takes: arithmetic, as lengths are known.

Work is counted in decoder steps, summed over tracks. A worker reports how many tracks it makes at once (``slots``) and
how many steps it does per second over all of them (``steps_per_s``). So per model

    wait  = (steps left of what runs + steps ahead in the line) / steps per second
    run   = steps of one track · slots / steps per second          (its tracks run side by side)
    eta   = wait + run

A tier's line is not only its own: while others have work too it gets at least its share f of the capacity, so what is
ahead of it is at most its own line / f, and at most everybody's. All of it is an estimate of what is already known;
later calls of a tier with a larger share may still come first, within that bound.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.store.schema import generations, workers

FRESH = timedelta(seconds=10)
"""A worker that was not seen for longer counts as gone."""

Shares = Mapping[str, float]
"""Tier → the fraction of the capacity it gets at least."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the workers that are alive can do for one model, together.

    Attributes:
        slots: tracks at once.
        steps_per_s: over all of them, when all are taken.
    """

    slots: int
    steps_per_s: float

    def __post_init__(self) -> None:
        if self.slots < 1 or not self.steps_per_s > 0:
            raise ValueError(f"a capacity has at least one slot and a rate above 0, got {self}")

    @property
    def track_steps_per_s(self) -> float:
        """Of one track among as many as there are slots."""
        return self.steps_per_s / self.slots

    def run_s(self, cost_steps: float, num_tracks: int) -> float:
        """Seconds that a generation takes once it has begun; more tracks than slots take turns."""
        return cost_steps / (self.track_steps_per_s * min(num_tracks, self.slots))

    def remaining_steps(self, cost_steps: float, num_tracks: int, elapsed_s: float) -> float:
        """Steps left of a generation that began ``elapsed_s`` seconds ago, between 0 and all of them."""
        done = max(0.0, elapsed_s) * self.track_steps_per_s * min(num_tracks, self.slots)
        return max(0.0, cost_steps - done)


@dataclass(frozen=True, slots=True)
class Work:
    """Some generations, in sum."""

    steps: float = 0.0
    tracks: int = 0
    generations: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.steps + other.steps, self.tracks + other.tracks, self.generations + other.generations)


@dataclass(frozen=True, slots=True)
class ModelBacklog:
    """One model's outstanding work.

    Attributes:
        capacity: None: no worker that is alive has said how fast it is.
        running: with the steps that are left.
        queued: by tier.
    """

    capacity: Capacity | None = None
    running: Work = Work()
    queued: Mapping[str, Work] = field(default_factory=dict)

    @property
    def waiting(self) -> Work:
        return sum(self.queued.values(), Work())

    def with_queued(self, tier: str, more: Work) -> ModelBacklog:
        return replace(self, queued={**self.queued, tier: self.queued.get(tier, Work()) + more})


@dataclass(frozen=True, slots=True)
class Backlog:
    """All models' outstanding work at one instant."""

    taken_at: datetime
    models: Mapping[str, ModelBacklog]

    def of(self, model_id: str) -> ModelBacklog:
        return self.models.get(model_id, ModelBacklog())


def share_of(tier: str, backlog: ModelBacklog, shares: Shares) -> float:
    """The fraction of the capacity that a tier gets beside the tiers that have work waiting now. In (0, 1].

    Raises:
        KeyError: no such tier. (Others' lines may be of tiers that are no longer in the file: they have no share.)
    """
    busy = [name for name, work in backlog.queued.items() if work.generations > 0 and name != tier]
    return shares[tier] / (shares[tier] + sum(shares.get(name, 0.0) for name in busy))


def ahead_of(tier: str, own: Work, backlog: ModelBacklog, shares: Shares) -> Work:
    """What the model's workers take up before a generation that has ``own`` of its tier's line ahead of it."""
    others = sum((work for name, work in backlog.queued.items() if name != tier), Work())
    # For each unit of its own line, the others' lines advance by as much as their shares say.
    ratio = 1 / share_of(tier, backlog, shares) - 1
    passing = min(others.steps, own.steps * ratio)
    part = passing / others.steps if others.steps > 0 else 0.0
    return own + Work(passing, round(others.tracks * part), round(others.generations * part))


def wait_s(tier: str, own: Work, num_tracks: int, backlog: ModelBacklog, shares: Shares) -> float | None:
    """Seconds until a generation begins that has ``own`` of its tier's line ahead of it; None: nobody can say.

    0 when there are slots for it and for all before it.
    """
    if backlog.capacity is None:
        return None
    ahead = ahead_of(tier, own, backlog, shares)
    if backlog.running.tracks + ahead.tracks + num_tracks <= backlog.capacity.slots:
        return 0.0
    return (backlog.running.steps + ahead.steps) / backlog.capacity.steps_per_s


def own_wait_s(running_s: Iterable[float], ahead_s: Iterable[float], places: int) -> float:
    """Seconds until an account's next generation may begin, for it has only so many places.

    Args:
        running_s: seconds left of each of its generations that runs.
        ahead_s: seconds that each of its waiting ones will take, in their order.
        places: generations that may run at the same time.
    """
    ends = sorted(running_s)[-places:]
    heapq.heapify(ends)
    for duration_s in [*ahead_s, 0.0]:
        begins = heapq.heappop(ends) if len(ends) >= places else 0.0
        heapq.heappush(ends, begins + duration_s)
    return begins


async def load(conn: AsyncConnection, now: datetime) -> Backlog:
    """The outstanding work of all models."""
    capacities = await capacity(conn, now)
    queued = await _queued(conn)
    running = await _running(conn, capacities, now)
    names = {*capacities, *queued, *running}
    return Backlog(
        now,
        {name: ModelBacklog(capacities.get(name), running.get(name, Work()), queued.get(name, {})) for name in names},
    )


async def capacity(conn: AsyncConnection, now: datetime) -> dict[str, Capacity]:
    """By model, what the workers seen in the last ten seconds can do. Those that have not measured yet are left out."""
    rows = await conn.execute(select(workers.c.capacity).where(workers.c.seen_at >= now - FRESH))
    slots: dict[str, int] = {}
    rates: dict[str, float] = {}
    for reported in rows.scalars():
        for model_id, each in reported.items():
            if each["slots"] >= 1 and each["steps_per_s"]:
                slots[model_id] = slots.get(model_id, 0) + int(each["slots"])
                rates[model_id] = rates.get(model_id, 0.0) + float(each["steps_per_s"])
    return {model_id: Capacity(slots[model_id], rates[model_id]) for model_id in slots}


async def _queued(conn: AsyncConnection) -> dict[str, dict[str, Work]]:
    table = generations.c
    rows = await conn.execute(
        select(table.model_id, table.tier, func.sum(table.cost_steps), func.sum(table.num_tracks), func.count())
        .where(table.state == "queued")
        .group_by(table.model_id, table.tier)
    )
    found: dict[str, dict[str, Work]] = {}
    for model_id, tier, steps, tracks, count in rows:
        found.setdefault(model_id, {})[tier] = Work(float(steps), int(tracks), int(count))
    return found


async def _running(conn: AsyncConnection, capacities: Mapping[str, Capacity], now: datetime) -> dict[str, Work]:
    table = generations.c
    rows = await conn.execute(
        select(table.model_id, table.cost_steps, table.num_tracks, table.started_at).where(
            table.state.in_(("running", "cancelling"))
        )
    )
    found: dict[str, Work] = {}
    for model_id, cost_steps, num_tracks, started_at in rows:
        steps = left(capacities.get(model_id), cost_steps, num_tracks, started_at, now)
        found[model_id] = found.get(model_id, Work()) + Work(steps, num_tracks, 1)
    return found


def left(
    capacity: Capacity | None, cost_steps: int, num_tracks: int, started_at: datetime | None, now: datetime
) -> float:
    """Steps left of a generation; all of them where its progress cannot be known."""
    if capacity is None or started_at is None:
        return float(cost_steps)
    return capacity.remaining_steps(cost_steps, num_tracks, (now - started_at).total_seconds())
