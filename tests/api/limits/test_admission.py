"""Who is let in while there is much to do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import ApiError, ErrorCode
from api.limits import Limits
from api.limits.admission import BLIND_QUEUE
from api.store import schema
from api.store.database import Database
from autoscaling.backlog import Work
from tests.api.limits.asking import ask, fill, newcomer
from tests.api.limits.rows import FOUR, Hands, add_account, add_generation, add_worker, tier


async def test_there_is_room(database: Database, limits: Limits) -> None:
    await fill(database, steps=300 * 200)
    await ask(database, limits)  # waits 300 s, just as long as it may


async def test_who_listens_waits_less(database: Database, limits: Limits) -> None:
    await fill(database, steps=50 * 200)
    await ask(database, limits)
    with pytest.raises(ApiError, match="promised 9 s"):
        await ask(database, limits, newcomer(mode="stream"))


async def test_a_full_free_line_does_not_keep_others_out(database: Database, limits: Limits) -> None:
    await fill(database, steps=10_000 * 200)
    await add_account(database, "acc_2", tier="enterprise")
    with pytest.raises(ApiError):
        await ask(database, limits)
    await ask(database, limits, newcomer("acc_2", tier("enterprise"), "stream"))


async def test_a_heavy_account_does_not_keep_others_of_its_tier_out(database: Database, limits: Limits) -> None:
    async with database.begin() as conn:
        await add_worker(conn, FOUR)
        for _ in range(10):
            await add_generation(conn, cost_steps=100 * 200, num_tracks=4)
    await add_account(database, "acc_2")
    await add_account(database, "acc_3", virtual_s=1e6)
    await ask(database, limits, newcomer("acc_2"))  # its clock starts where the first one's stands
    with pytest.raises(ApiError):
        await ask(database, limits, newcomer("acc_3"))  # it was served a lot a moment ago
    with pytest.raises(ApiError):
        await ask(database, limits)
    limits.admission.check_early(newcomer("acc_3"))  # what is not known for sure is not refused


async def test_models_have_lines_of_their_own(database: Database, limits: Limits) -> None:
    await fill(database, steps=10_000 * 200)
    await ask(database, limits, newcomer(model_id="small"))


async def test_a_burst_between_two_readings_is_seen(database: Database, limits: Limits) -> None:
    await fill(database, steps=299 * 200)
    await ask(database, limits)
    with pytest.raises(ApiError, match="about 302 s"):  # 299, and 500 steps at 200 a second
        await ask(database, limits)


async def test_what_is_let_in_and_rolled_back_is_forgotten(database: Database, limits: Limits, clock: Hands) -> None:
    await fill(database, steps=299 * 200)
    await ask(database, limits)
    with pytest.raises(ApiError):
        await ask(database, limits)
    clock.move(0.26)  # read anew: the row was never written
    await ask(database, limits)


async def test_the_database_is_asked_four_times_a_second(database: Database, limits: Limits, clock: Hands) -> None:
    await fill(database, steps=100)
    statements: list[str] = []

    def count(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
        statements.append(statement)

    async def asked(conn: AsyncConnection) -> int:
        statements.clear()
        await limits.backlogs.get(conn, clock())
        return len(statements)

    async with database.read() as conn:
        await conn.execute(select(schema.accounts.c.id))  # connected
        event.listen(conn.sync_connection, "before_cursor_execute", count)
        assert await asked(conn) == 3
        clock.move(0.25)
        assert await asked(conn) == 0
        clock.move(0.01)
        assert await asked(conn) == 3
        clock.move(-60)  # the clock was set back
        assert await asked(conn) == 3


async def test_of_many_that_look_one_reads(database: Database, limits: Limits, clock: Hands) -> None:
    await fill(database, steps=100)
    await asyncio.gather(*(limits.backlogs.refresh(database, clock()) for _ in range(10)))
    seen = limits.backlogs.fresh(clock())
    assert seen is not None
    assert seen.of("tiny").waiting == Work(100.0, 4, 1)
    await limits.backlogs.refresh(database, clock())
    assert limits.backlogs.fresh(clock()) is seen
    clock.move(0.3)
    assert limits.backlogs.fresh(clock()) is None
    await limits.backlogs.refresh(database, clock())
    assert limits.backlogs.fresh(clock()) is not seen


async def test_refused_early_only_if_it_is_known(database: Database, limits: Limits, clock: Hands) -> None:
    def early() -> None:
        limits.admission.check_early(newcomer())

    await fill(database, steps=345 * 200)
    early()  # nothing was read yet
    with pytest.raises(ApiError):
        await ask(database, limits)
    with pytest.raises(ApiError, match="345 s"):
        early()
    clock.move(1)
    early()  # too long ago


async def test_without_workers_some_may_wait(database: Database, limits: Limits, clock: Hands) -> None:
    async with database.begin() as conn:
        await add_worker(conn, FOUR, age_s=11)
        for _ in range(BLIND_QUEUE - 1):
            await add_generation(conn)
    await ask(database, limits)
    with pytest.raises(ApiError, match="no worker is there") as caught:
        await ask(database, limits)
    assert caught.value.code is ErrorCode.SYSTEM_OVERLOADED
    assert caught.value.headers == {"Retry-After": "10"}


async def test_the_bundle(limits: Limits, database: Database, clock: Hands) -> None:
    assert limits.tier("pro") is limits.tiers["pro"]
    async with database.begin() as conn:
        assert await limits.purge(conn) == 0
    await limits.close()
    await limits.close()
