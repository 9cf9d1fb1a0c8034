"""While replicas start: who is let in, and what is said to whom."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from sqlalchemy import select, update

from api.cache.client import Cache
from api.errors import ApiError
from api.generations.outlook import Outlook, Subject
from api.generations.starts import publish
from api.limits import Limits
from api.store import schema
from api.store.database import Database
from tests.api.limits.asking import ask, newcomer
from tests.api.limits.rows import FOUR, NOW, Hands, add_account, add_generation, add_worker

REPLICA = {"tiny": {"slots": 4, "steps_per_s": 200.0, "per_replica": 4}}
AT = NOW.timestamp()


@pytest.fixture
async def full(database: Database) -> None:
    """One replica, of four tracks, is busy for a minute."""
    await add_account(database, "acc_2")
    async with database.begin() as conn:
        await add_worker(conn, REPLICA)
        await add_generation(conn, "acc_2", state="running", num_tracks=4, cost_steps=12_000, started_at=NOW)


async def starting(cache: Cache, limits: Limits, *due: tuple[float, int]) -> None:
    await publish(cache, {"tiny": (0.0, AT)}, {"tiny": due})
    await limits.starts.refresh()


@pytest.mark.usefixtures("full")
async def test_a_listener_is_let_in_whom_a_replica_that_starts_serves_in_time(
    database: Database, limits: Limits, cache: Cache
) -> None:
    await starting(cache, limits, (AT + 8.5, 1))  # nine seconds are promised
    await ask(database, limits, newcomer(mode="stream"))


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("due", [[], [(AT + 9.5, 1)], [(AT - 20.0, 1)]], ids=["nobody", "too-late", "overdue"])
async def test_a_listener_is_refused_whom_nobody_serves_in_time(
    due: list[tuple[float, int]], database: Database, limits: Limits, cache: Cache
) -> None:
    await starting(cache, limits, *due)
    with pytest.raises(ApiError, match="promised 9 s"):
        await ask(database, limits, newcomer(mode="stream"))


@pytest.mark.usefixtures("full")
async def test_who_is_refused_may_come_back_when_a_replica_is_about_to_serve(
    database: Database, limits: Limits, cache: Cache
) -> None:
    await starting(cache, limits, (AT + 15.0, 1))
    with pytest.raises(ApiError, match="about 15 s") as refused:
        await ask(database, limits, newcomer(mode="stream"))
    assert (refused.value.headers or {})["Retry-After"] == "6"


@pytest.mark.usefixtures("full")
async def test_as_many_are_let_in_as_the_new_replica_takes(database: Database, limits: Limits, cache: Cache) -> None:
    """Also between two readings of the database."""
    await starting(cache, limits, (AT + 5.0, 1))
    for _ in range(4):
        await ask(database, limits, newcomer(mode="stream"))
    with pytest.raises(ApiError):
        await ask(database, limits, newcomer(mode="stream"))


@pytest.mark.usefixtures("full")
async def test_nothing_is_expected_once_nobody_says_so_any_more(
    database: Database, limits: Limits, cache: Cache, clock: Hands
) -> None:
    await starting(cache, limits, (AT + 8.5, 1))
    await cache.redis.flushall()  # as the keys expire when the autoscaler is gone
    clock.move(1.0)
    await limits.starts.refresh()
    with pytest.raises(ApiError, match="promised 9 s"):
        await ask(database, limits, newcomer(mode="stream"))


@pytest.mark.usefixtures("full")
async def test_a_worker_of_an_earlier_version_does_not_say_what_a_replica_takes(
    database: Database, limits: Limits, cache: Cache
) -> None:
    async with database.begin() as conn:
        await conn.execute(update(schema.workers).values(capacity=FOUR))
    await starting(cache, limits, (AT + 8.5, 1))
    with pytest.raises(ApiError, match="promised 9 s"):
        await ask(database, limits, newcomer(mode="stream"))


@pytest.mark.usefixtures("full")
async def test_who_waits_is_told_when_the_new_replica_will_be_done(
    database: Database, limits: Limits, cache: Cache
) -> None:
    async with database.begin() as conn:
        mine = await add_generation(conn)
    await publish(cache, {"tiny": (0.0, AT)}, {"tiny": [(AT + 20.0, 1)]})
    async with database.read() as conn:
        found = await conn.execute(select(schema.generations).where(schema.generations.c.id == mine))
        said = await limits.outlook(conn, cast(Subject, SimpleNamespace(**found.mappings().one())))
    assert said == Outlook(1, 20.0 + 10.0)
