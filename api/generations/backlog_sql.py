"""The outstanding work and the workers, as the database has them: three queries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.store.schema import accounts, generations, workers
from autoscaling.backlog import Backlog, Capacity, Line, ModelBacklog, Work, left

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
    """By model, what the replicas can do, as the workers seen in the last ten seconds tell it.

    All workers feed the same replicas, and each tells of all of their places: the newest word counts, once. How fast a
    track goes is the mean of what they measured. A model that nobody has measured yet is left out.
    """
    fresh = select(workers.c.capacity).where(workers.c.seen_at >= now - FRESH).order_by(workers.c.seen_at, workers.c.id)
    newest: dict[str, Mapping[str, Any]] = {}
    rates: dict[str, list[float]] = {}
    for reported in (await conn.execute(fresh)).scalars():
        for model_id, each in reported.items():
            if each["slots"] >= 1:
                newest[model_id] = each
                if each["steps_per_s"]:
                    rates.setdefault(model_id, []).append(each["steps_per_s"] / each["slots"])
    found: dict[str, Capacity] = {}
    for model_id, measured in rates.items():
        slots = int(newest[model_id]["slots"])
        rate = slots * math.fsum(measured) / len(measured)
        at_hand, per_replica = (int(newest[model_id].get(name, 0)) for name in ("at_hand", "per_replica"))
        found[model_id] = Capacity(slots, rate, at_hand, per_replica)
    return found


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
