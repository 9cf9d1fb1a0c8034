"""Who is let in while there is much to do, when the others may come back, and what is told to those who wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.cache.client import Cache
from api.errors import ApiError, ErrorCode
from api.generations.backlog import Backlog, Capacity, Line, ModelBacklog, Work
from api.generations.outlook import Backlogs, Outlook, Subject
from api.limits import Limits, Newcomer
from api.limits.admission import BLIND_QUEUE, Admission
from api.limits.concurrency import Mode
from api.limits.tiers import Tier
from api.settings import Settings
from api.store import schema
from api.store.database import Database
from tests.api.limits.rows import NOW, TIERS, add_account, add_generation, add_worker, tier

FOUR = {"tiny": {"slots": 4, "steps_per_s": 200.0}}


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
async def limits(database: Database, cache: Cache, clock: Hands) -> AsyncIterator[Limits]:
    await add_account(database)
    limits = Limits(Settings(), cache, clock)
    yield limits
    await limits.close()


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


async def test_the_bundle(limits: Limits, database: Database, clock: Hands) -> None:
    assert limits.tier("pro") is limits.tiers["pro"]
    async with database.begin() as conn:
        assert await limits.purge(conn) == 0
    await limits.close()
    await limits.close()
