"""Generations of one account at the same time: exact, and without deadlocks."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, select

from api.errors import ApiError, ErrorCode
from api.limits import concurrency, idempotency
from api.limits.concurrency import Mode
from api.store import schema
from api.store.database import Database
from tests.api.limits.rows import NOW, add_account, add_generation, tier


@pytest.fixture
async def account(database: Database) -> str:
    return await add_account(database)


async def create(database: Database, account: str, mode: Mode = "async", key: str | None = None) -> None:
    """What accepting a call does, as far as it matters here."""
    async with database.begin() as conn:
        if key is not None:
            await idempotency.claim(conn, account, key, "hash", NOW)
        await concurrency.check(conn, account, tier(), mode)
        await add_generation(conn, account, mode=mode)


async def fill(database: Database, account: str, *states: str) -> None:
    async with database.begin() as conn:
        for state in states:
            await add_generation(conn, account, state=state)


async def count(database: Database) -> int:
    async with database.read() as conn:
        return await conn.scalar(select(func.count()).select_from(schema.generations)) or 0


async def test_an_asynchronous_one_may_wait(database: Database, account: str) -> None:
    await fill(database, account, "running", "queued", "queued", "queued")
    await create(database, account)
    with pytest.raises(ApiError, match="allows 5 generations under way or waiting") as caught:
        await create(database, account)
    assert caught.value.code is ErrorCode.CONCURRENCY_LIMIT_EXCEEDED
    assert caught.value.status_code == 429
    assert caught.value.details == {"mode": "async", "limit": 5, "queued": 4, "running": 1, "cancelling": 0}
    assert "Retry-After" not in (caught.value.headers or {})  # nobody knows when one ends


@pytest.mark.parametrize("state", ["queued", "running", "cancelling"])
async def test_a_streamed_one_may_not(database: Database, account: str, state: str) -> None:
    await fill(database, account, state)
    with pytest.raises(ApiError, match="allows 1 generations streamed at once"):
        await create(database, account, "stream")


async def test_what_has_ended_does_not_count(database: Database, account: str) -> None:
    await fill(database, account, *["succeeded", "failed", "cancelled", "expired"] * 3)
    await create(database, account, "stream")


async def test_others_do_not_count(database: Database, account: str) -> None:
    await fill(database, await add_account(database, "acc_2"), "running")
    await create(database, account, "stream")


@pytest.mark.parametrize("keyed", [False, True])
async def test_of_thirty_at_once_exactly_the_limit_passes(
    database: Database, account: str, database_url: str, keyed: bool
) -> None:
    # With keys, every transaction holds a row that refers to the account before it locks the account's own.
    gateways = [Database.connect(database_url) for _ in range(3)]
    results = await asyncio.gather(
        *(create(gateways[each % 3], account, key=f"key-{each}" if keyed else None) for each in range(30)),
        return_exceptions=True,
    )
    await asyncio.gather(*(gateway.close() for gateway in gateways))
    assert [each for each in results if each is not None and not isinstance(each, ApiError)] == []
    assert results.count(None) == 5
    assert await count(database) == 5
