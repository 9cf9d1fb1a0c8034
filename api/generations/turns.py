"""Whose turn it is: of each tier the account that is next, and what it would have made first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ScalarSelect, Select, bindparam, func, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from api.generations.view import LEASED, State
from api.store.schema import accounts, generations
from autoscaling.fairness import Tenant, TierRule, Waiting


async def first_tenants(
    conn: AsyncConnection, model_id: str, rules: Mapping[str, TierRule], now: datetime
) -> list[Tenant]:
    """Of each tier the account that is next, with the head of its line for this model.

    An account stands in the index in the order of its clock, and the head of its line in another: however long the
    line is, neither is read beyond what is asked for.
    """
    found: list[tuple[Any, str]] = []
    for tier, rule in rules.items():
        values = {"tier": tier, "running_limit": rule.running, "model_id": model_id, "now": now}
        row = (await conn.execute(_NEXT_OF_TIER, values)).first()
        if row is not None:
            found.append((row, tier))
    heads = await _heads(conn, [head for row, _ in found for head in (row.stream_head, row.async_head) if head])
    return [
        Tenant(
            row.id,
            tier,
            row.virtual_s,
            row.running,
            [heads[head] for head in (row.stream_head, row.async_head) if head in heads],
        )
        for row, tier in found
    ]


def _head(mode: str) -> ScalarSelect[Any]:
    """The first of an account's line, of one mode."""
    table = generations.c
    return (
        select(table.id)
        .where(
            table.account_id == accounts.c.id,
            table.state == State.QUEUED,
            table.mode == mode,
            table.model_id == bindparam("model_id"),
            table.available_at <= bindparam("now"),
            table.expires_at > bindparam("now"),
        )
        .order_by(table.deadline_at)
        .limit(1)
        .correlate(accounts)
        .scalar_subquery()
    )


def _next_of_tier() -> Select[Any]:
    table = accounts.c
    running = (
        select(func.count())
        .where(generations.c.account_id == table.id, generations.c.state.in_(LEASED))
        .correlate(accounts)
        .scalar_subquery()
    )
    line = (
        select(
            table.id,
            table.virtual_s,
            running.label("running"),
            _head("stream").label("stream_head"),
            _head("async").label("async_head"),
        )
        .where(table.tier == bindparam("tier"), table.waiting == true())
        .subquery()
    ).c
    has_work = or_(line.stream_head.is_not(None), line.async_head.is_not(None))
    return (
        select(line.id, line.virtual_s, line.running, line.stream_head, line.async_head)
        .where(has_work, line.running < bindparam("running_limit"))
        .order_by(line.virtual_s, line.id)
        .limit(1)
    )


_NEXT_OF_TIER = _next_of_tier()  # built once: it takes longer to build than to execute


async def _heads(conn: AsyncConnection, ids: Sequence[str]) -> dict[str, Waiting]:
    table = generations.c
    rows = await conn.execute(
        select(table.id, table.num_tracks, table.duration_s, table.mode, table.deadline_at).where(table.id.in_(ids))
    )
    return {
        row.id: Waiting(row.id, row.num_tracks, row.duration_s * row.num_tracks, row.mode, row.deadline_at)
        for row in rows
    }
