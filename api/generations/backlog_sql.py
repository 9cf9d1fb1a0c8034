"""The outstanding work and the workers, as the database has them: three queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.generations.backlog import Backlog, Capacity, Line, ModelBacklog, Work, left
from api.store.schema import accounts, generations, workers

FRESH = timedelta(seconds=10)
"""A worker that was not seen for longer counts as gone."""


async def load(conn: AsyncConnection, now: datetime) -> Backlog:
    """The outstanding work of all models."""
    capacities = await capacity(conn, now)
    lines = await _lines(conn)
    running = await _running(conn, capacities, now)
    names = {*capacities, *lines, *running}
    return Backlog(
        now,
        {name: ModelBacklog(capacities.get(name), running.get(name, Work()), lines.get(name, {})) for name in names},
    )


async def capacity(conn: AsyncConnection, now: datetime) -> dict[str, Capacity]:
    """By model, what the workers seen in the last ten seconds can do. Those that have not measured yet are left out."""
    rows = await conn.execute(select(workers.c.capacity).where(workers.c.seen_at >= now - FRESH))
    slots: dict[str, int] = {}
    rates: dict[str, float] = {}
    at_hand: dict[str, int] = {}
    for reported in rows.scalars():
        for model_id, each in reported.items():
            if each["slots"] >= 1 and each["steps_per_s"]:
                slots[model_id] = slots.get(model_id, 0) + int(each["slots"])
                rates[model_id] = rates.get(model_id, 0.0) + float(each["steps_per_s"])
                at_hand[model_id] = at_hand.get(model_id, 0) + int(each.get("at_hand", 0))
    return {model_id: Capacity(slots[model_id], rates[model_id], at_hand[model_id]) for model_id in slots}


async def _lines(conn: AsyncConnection) -> dict[str, dict[str, dict[str, Line]]]:
    """Model → tier → account → line. The tier is the account's of today, as the queue takes it."""
    table, owner = generations.c, accounts.c
    # Grouped before it is joined: an account is looked up once, not for each of its generations.
    grouped = (
        select(
            table.model_id,
            table.account_id,
            func.sum(table.cost_steps).label("steps"),
            func.sum(table.num_tracks).label("tracks"),
            func.count().label("count"),
            func.sum(table.duration_s * table.num_tracks).label("audio_s"),
        )
        .where(table.state == "queued")
        .group_by(table.model_id, table.account_id)
        .subquery()
    )
    each = grouped.c
    rows = await conn.execute(
        select(
            each.model_id, owner.tier, owner.id, owner.virtual_s, each.steps, each.tracks, each["count"], each.audio_s
        ).join(accounts, owner.id == each.account_id)
    )
    found: dict[str, dict[str, dict[str, Line]]] = {}
    for model_id, tier, account_id, virtual_s, steps, tracks, count, audio in rows:
        line = Line(account_id, virtual_s, Work(float(steps), int(tracks), int(count)), float(audio))
        found.setdefault(model_id, {}).setdefault(tier, {})[account_id] = line
    return found


async def _running(conn: AsyncConnection, capacities: Mapping[str, Capacity], now: datetime) -> dict[str, Work]:
    table = generations.c
    rows = await conn.execute(
        select(table.model_id, table.tier, table.cost_steps, table.num_tracks, table.started_at).where(
            table.state.in_(("running", "cancelling"))
        )
    )
    found: dict[str, Work] = {}
    ends: dict[str, list[float]] = {}
    by_tier: dict[str, dict[str, int]] = {}
    for model_id, tier, cost_steps, num_tracks, started_at in rows:
        capacity = capacities.get(model_id)
        steps = left(capacity, cost_steps, num_tracks, started_at, now)
        found[model_id] = found.get(model_id, Work()) + Work(steps, num_tracks, 1)
        tracks = by_tier.setdefault(model_id, {})
        tracks[tier] = tracks.get(tier, 0) + num_tracks
        if capacity is not None:
            ends.setdefault(model_id, []).extend([capacity.run_s(steps, num_tracks)] * num_tracks)
    return {
        model_id: replace(work, ends_s=tuple(sorted(ends.get(model_id, ()))), by_tier=by_tier[model_id])
        for model_id, work in found.items()
    }
