"""Rows to put limits on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth.principal import ALL_SCOPES, Principal, Role
from api.ids import new_id
from api.limits.tiers import Tier, Tiers
from api.store import schema
from api.store.database import Database

NOW = datetime(2026, 3, 31, 22, 40, 30, tzinfo=UTC)
TIERS = Tiers.load()
FOUR = {"tiny": {"slots": 4, "steps_per_s": 200.0}}
"""The capacity of a worker with four slots of 50 steps a second."""


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def tier(name: str = "free", **changes: Any) -> Tier:
    """A tier of the file, changed and checked anew."""
    return Tier.model_validate(TIERS[name].model_dump() | changes)


def principal(account_id: str = "acc_1", tier: str = "free") -> Principal:
    return Principal(account_id, Role.USER, tier, ALL_SCOPES, "token")


async def add_account(database: Database, account_id: str = "acc_1", **values: Any) -> str:
    async with database.begin() as conn:
        await conn.execute(insert(schema.accounts).values(id=account_id, created_at=NOW, **values))
    return account_id


async def add_generation(conn: AsyncConnection, account_id: str = "acc_1", **values: Any) -> str:
    """A queued generation of one 10 s track (500 steps) in the free tier, unless told otherwise."""
    row = {
        "id": new_id("gen"),
        "request_id": "req_1",
        "account_id": account_id,
        "state": "queued",
        "mode": "async",
        "tier": "free",
        "model_id": "tiny",
        "prompt": "",
        "duration_s": 10.0,
        "num_tracks": 1,
        "seed": 0,
        "sampling": {},
        "format": "wav",
        "cost_steps": 500,
        "created_at": NOW,
        "available_at": NOW,
        "expires_at": NOW + timedelta(hours=1),
        "deadline_at": NOW + timedelta(hours=1),
    } | values
    await conn.execute(insert(schema.generations).values(**row))
    return str(row["id"])


async def add_worker(conn: AsyncConnection, capacity: dict[str, Any], *, age_s: float = 0.0) -> None:
    """A worker that was last seen ``age_s`` seconds ago."""
    seen_at = NOW - timedelta(seconds=age_s)
    await conn.execute(
        insert(schema.workers).values(id=new_id("wrk"), started_at=NOW, seen_at=seen_at, capacity=capacity)
    )
