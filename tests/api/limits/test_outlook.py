"""What is told to those who wait."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import select

from api.cache.client import Cache
from api.generations.outlook import Outlook, Subject
from api.generations.starts import publish
from api.limits import Limits
from api.store import schema
from api.store.database import Database
from tests.api.limits.rows import FOUR, NOW, Hands, add_account, add_generation, add_worker


@pytest.fixture
def outlook_of(database: Database, limits: Limits) -> Callable[[str], Any]:
    async def outlook_of(generation_id: str) -> Outlook:
        async with database.read() as conn:
            found = await conn.execute(select(schema.generations).where(schema.generations.c.id == generation_id))
            return await limits.outlook(conn, cast(Subject, SimpleNamespace(**found.mappings().one())))

    return outlook_of


async def test_the_outlook_of_one_that_waits(
    database: Database, outlook_of: Callable[[str], Any], limits: Limits
) -> None:
    clocks = {"acc_2": 0.0, "acc_3": 2.0, "acc_4": 100.0, "acc_5": 0.0}
    for account, virtual_s in clocks.items():
        await add_account(database, account, virtual_s=virtual_s)
    async with database.begin() as conn:
        await add_worker(conn, FOUR)
        await add_generation(conn, "acc_2", state="running", num_tracks=4, cost_steps=2000, started_at=NOW)
        await add_generation(conn, "acc_3", num_tracks=2, cost_steps=1000)
        await add_generation(conn, "acc_4")
        await add_generation(conn, "acc_5", model_id="small")
        await add_generation(conn, model_id="tiny", deadline_at=NOW + timedelta(seconds=2))
        mine = await add_generation(conn, num_tracks=2, cost_steps=1000, deadline_at=NOW + timedelta(seconds=3))
    # 2,000 steps run; 500 of the account's own and 1,000 of acc_3 are in front, at 200 a second; then 1,000 at 100.
    assert await outlook_of(mine) == Outlook(3, 17.5 + 10.0)


async def test_an_accounts_streams_come_first(database: Database, outlook_of: Callable[[str], Any]) -> None:
    async with database.begin() as conn:
        await add_worker(conn, FOUR)
        await add_generation(conn, deadline_at=NOW)
        streamed = await add_generation(conn, mode="stream")
    assert await outlook_of(streamed) == Outlook(1, 10.0)


async def test_a_tier_that_is_no_longer_there(database: Database, outlook_of: Callable[[str], Any]) -> None:
    await add_account(database, "acc_2", tier="gone")
    async with database.begin() as conn:
        await add_worker(conn, FOUR)
        waiting = await add_generation(conn, "acc_2")
    assert await outlook_of(waiting) == Outlook()


async def test_of_two_at_the_same_instant_one_is_first(database: Database, outlook_of: Callable[[str], Any]) -> None:
    async with database.begin() as conn:
        await add_worker(conn, FOUR)
        names = [await add_generation(conn, id=f"gen_{letter}") for letter in "ab"]
    assert [(await outlook_of(name)).queue_position for name in names] == [1, 2]


async def test_an_account_waits_for_its_own(database: Database, outlook_of: Callable[[str], Any]) -> None:
    async with database.begin() as conn:
        await add_worker(conn, FOUR)
        await add_generation(conn, state="running", started_at=NOW - timedelta(seconds=4))
        second = await add_generation(conn, deadline_at=NOW + timedelta(seconds=8))
        third = await add_generation(conn, deadline_at=NOW + timedelta(seconds=9))
    # There are slots, but the free tier runs one at a time.
    assert await outlook_of(second) == Outlook(1, 6.0 + 10.0)
    assert await outlook_of(third) == Outlook(2, 6.0 + 20.0)


async def test_the_outlook_of_one_that_runs(database: Database, outlook_of: Callable[[str], Any]) -> None:
    async with database.begin() as conn:
        await add_worker(conn, FOUR)
        started_at = NOW - timedelta(seconds=4)
        begun = await add_generation(conn, state="running", num_tracks=2, cost_steps=1000, started_at=started_at)
        late = await add_generation(conn, state="running", started_at=NOW - timedelta(minutes=1))
    assert await outlook_of(begun) == Outlook(None, 6.0)
    assert await outlook_of(late) == Outlook(None, 0.0)


async def test_while_the_model_sleeps_its_start_comes_on_top(
    database: Database, outlook_of: Callable[[str], Any], cache: Cache, clock: Hands
) -> None:
    await add_account(database, "acc_2")
    async with database.begin() as conn:
        await add_worker(conn, FOUR)
        sent = await add_generation(conn, state="running", started_at=NOW - timedelta(seconds=4))
        waiting = await add_generation(conn, "acc_2")
    await publish(cache, {"tiny": (8.0, None)})
    assert await outlook_of(sent) == Outlook(None, 8.0 + 10.0)
    assert await outlook_of(waiting) == Outlook(1, 8.0 + 10.0)
    await publish(cache, {"tiny": (0.0, NOW.timestamp())})
    clock.move(2.0)
    assert await outlook_of(sent) == Outlook(None, 8.0)  # it was begun two seconds ago, when the replica was there


async def test_without_workers_only_the_place_is_known(database: Database, outlook_of: Callable[[str], Any]) -> None:
    async with database.begin() as conn:
        running = await add_generation(conn, state="running", started_at=NOW)
        waiting = await add_generation(conn)
    assert await outlook_of(running) == Outlook(None, None)
    assert await outlook_of(waiting) == Outlook(1, None)


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "expired"])
async def test_what_has_ended_has_no_outlook(database: Database, outlook_of: Callable[[str], Any], state: str) -> None:
    async with database.begin() as conn:
        ended = await add_generation(conn, state=state)
    assert await outlook_of(ended) == Outlook()
