"""Who is let in while there is much to do, and when the others may come back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import ApiError, ErrorCode
from api.generations.backlog import Backlog, Capacity, Line, ModelBacklog, Work
from api.generations.outlook import Backlogs
from api.limits import Limits, Newcomer
from api.limits.admission import BLIND_QUEUE, Admission
from api.limits.coming_back import MAX_LATER_S
from api.limits.concurrency import Mode
from api.limits.tiers import Tier
from api.store import schema
from api.store.database import Database
from tests.api.limits.rows import FOUR, NOW, TIERS, Hands, add_account, add_generation, add_worker, tier


async def fill(database: Database, steps: int) -> None:
    """A worker of four slots and 200 steps a second, and one generation of four tracks that waits for it."""
    async with database.begin() as conn:
        await add_worker(conn, FOUR)
        await add_generation(conn, cost_steps=steps, num_tracks=4)


def newcomer(
    account_id: str = "acc_1", limit: Tier | None = None, mode: Mode = "async", model_id: str = "tiny"
) -> Newcomer:
    """One track of 10 s."""
    return Newcomer(account_id, model_id, limit or tier(), mode, 500, 1, 10.0)


async def ask(database: Database, limits: Limits, who: Newcomer | None = None) -> None:
    async with database.begin() as conn:
        await limits.admission.check(conn, who or newcomer())


async def test_there_is_room(database: Database, limits: Limits) -> None:
    await fill(database, steps=300 * 200)
    await ask(database, limits)  # waits 300 s, just as long as it may


async def test_there_is_none(database: Database, limits: Limits) -> None:
    await fill(database, steps=345 * 200)
    with pytest.raises(ApiError, match="would wait about 345 s, and the free tier is promised 300 s") as caught:
        await ask(database, limits)
    assert caught.value.code is ErrorCode.SYSTEM_OVERLOADED
    assert caught.value.status_code == 503
    assert caught.value.headers == {"Retry-After": "45"}
    assert caught.value.details == {"estimated_wait_s": 345.0, "max_wait_s": 300.0}


async def test_each_is_told_to_come_behind_those_who_were_refused_before(database: Database, limits: Limits) -> None:
    """The line has no room for 45 s. Whoever is refused stands in line outside, with 500 steps at 200 a second."""
    await fill(database, steps=345 * 200)
    advice = []
    for _ in range(4):
        with pytest.raises(ApiError) as caught:
            await ask(database, limits)
        advice.append((caught.value.headers or {})["Retry-After"])
    assert advice == ["45", "48", "50", "53"]  # 2.5 s each, rounded up


async def test_lines_outside_are_of_one_model_and_tier(database: Database, limits: Limits) -> None:
    await fill(database, steps=10_000 * 200)
    for _ in range(3):
        with pytest.raises(ApiError):
            await ask(database, limits)
    await add_account(database, "acc_2", tier="enterprise")
    await ask(database, limits, newcomer("acc_2", tier("enterprise"), "stream"))
    await ask(database, limits, newcomer(model_id="small"))


async def test_nobody_is_sent_far_away_because_of_the_line_outside(database: Database, limits: Limits) -> None:
    await fill(database, steps=345 * 200)
    for _ in range(50):
        with pytest.raises(ApiError) as caught:
            await ask(database, limits)
    assert int((caught.value.headers or {})["Retry-After"]) == 45 + MAX_LATER_S


async def test_what_was_not_read_is_refused_only_if_nothing_would_be_let_in(database: Database, limits: Limits) -> None:
    def unread(mode: Mode, *models: str) -> None:
        limits.admission.check_unread("acc_1", tier(), mode, models)

    unread("async", "tiny")  # nothing is known
    await fill(database, steps=100 * 200)
    await ask(database, limits)
    unread("async", "tiny")
    with pytest.raises(ApiError, match="promised 30 s") as caught:
        unread("stream", "tiny")
    assert caught.value.code is ErrorCode.SYSTEM_OVERLOADED
    unread("stream", "tiny", "small")


async def test_who_is_refused_unread_stands_in_line_as_long_as_others_do(database: Database, limits: Limits) -> None:
    await fill(database, steps=400 * 200)
    await limits.backlogs.refresh(database, NOW)
    advice = []
    for _ in range(2):
        with pytest.raises(ApiError) as caught:
            limits.admission.check_unread("acc_1", tier(), "async", ["tiny"])
        advice.append(int((caught.value.headers or {})["Retry-After"]))
    assert advice == [100, 100 + MAX_LATER_S]  # the only one that waits takes 400 s, so that is what this one may take


async def test_who_listens_waits_less(database: Database, limits: Limits) -> None:
    await fill(database, steps=50 * 200)
    await ask(database, limits)
    with pytest.raises(ApiError, match="promised 30 s"):
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


@given(
    st.integers(1, 64),
    st.floats(1, 1e5),
    st.floats(0, 1e8),
    st.floats(0, 1e8),
    st.sampled_from(["free", "pro", "enterprise"]),
    st.sampled_from(["async", "stream"]),
)
def test_retry_after_is_honest(slots: int, rate: float, running: float, queued: float, name: str, mode: Mode) -> None:
    """Whoever comes back then, while nobody else came, is let in; a second and a bit earlier, not."""

    def attempt(after_s: float) -> ApiError | None:
        done = after_s * rate
        left, line = max(0.0, running - done), max(0.0, queued - max(0.0, done - running))
        own = Line("acc_1", 0.0, Work(line, slots, slots), 10.0 * slots)
        model = ModelBacklog(Capacity(slots, rate), Work(left, slots, slots), {name: {"acc_1": own}})
        backlogs = Backlogs()
        backlogs.seen(Backlog(NOW, {"tiny": model}))
        admission = Admission(TIERS, backlogs, lambda: NOW)
        try:
            admission.check_early(newcomer("acc_1", TIERS[name], mode))
        except ApiError as error:
            return error
        return None

    refused = attempt(0)
    if refused is not None:
        retry_after_s = int((refused.headers or {})["Retry-After"])
        assert attempt(retry_after_s * (1 + 1e-9)) is None
        if retry_after_s > 1:
            assert attempt(retry_after_s - 1.001) is not None


async def test_the_bundle(limits: Limits, database: Database, clock: Hands) -> None:
    assert limits.tier("pro") is limits.tiers["pro"]
    async with database.begin() as conn:
        assert await limits.purge(conn) == 0
    await limits.close()
    await limits.close()
