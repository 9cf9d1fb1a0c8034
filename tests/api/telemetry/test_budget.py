"""The error budget's books: exact over processes, repetitions, outages and time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from api.store.database import Database
from api.telemetry.budget import WINDOWS, Attainment, BudgetWriter, attainment, purge
from api.telemetry.compose import objectives
from api.telemetry.levels import service_levels
from api.telemetry.tally import SLOT, Count, Tally, slot_of

NOW = datetime(2026, 11, 21, 15, 2, 30, tzinfo=UTC)


@dataclass
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def writer(database: Database, clock: Clock, name: str, log: LogCapture | None = None) -> BudgetWriter:
    logger: Any = structlog.wrap_logger(None, processors=[log or LogCapture()])
    return BudgetWriter(database, Tally(clock), name, clock, logger)


async def seen(database: Database, clock: Clock) -> Attainment:
    async with database.read() as conn:
        return await attainment(conn, clock())


def count(writer: BudgetWriter, good: int, bad: int, sli: str = "success", tier: str = "pro") -> None:
    for _ in range(good):
        writer.tally.count(sli, tier, good=True)
    for _ in range(bad):
        writer.tally.count(sli, tier, good=False)


async def test_the_sum_of_all_processes_however_often_they_write(database: Database, clock: Clock) -> None:
    first, second = writer(database, clock, "ing_1"), writer(database, clock, "wrk_1")
    count(first, 5, 1)
    count(second, 2, 0)
    count(second, 0, 3, sli="deadline", tier="free")
    assert await first.write()
    assert await second.write()
    assert await second.write()  # nothing new
    count(first, 1, 0)
    assert await first.write()
    found = await seen(database, clock)
    assert found["success", "pro"] == dict.fromkeys(WINDOWS, Count(8, 1))
    assert found["deadline", "free"] == dict.fromkeys(WINDOWS, Count(0, 3))


async def test_windows_leave_out_what_is_older(database: Database, clock: Clock) -> None:
    one = writer(database, clock, "ing_1")
    for age in (timedelta(days=29), timedelta(days=2), timedelta(hours=5), timedelta(minutes=30), timedelta(0)):
        clock.now = NOW - age
        count(one, 1, 0)
    clock.now = NOW
    assert await one.write()
    found = (await seen(database, clock))["success", "pro"]
    assert {name: each.good for name, each in found.items()} == {
        "5m": 1, "1h": 2, "6h": 3, "1d": 3, "3d": 4, "30d": 5,
    }  # fmt: skip
    clock.now = NOW + timedelta(days=32)
    async with database.begin() as conn:
        assert await purge(conn, clock()) == 5
    assert await seen(database, clock) == {}


async def test_while_the_database_is_away_nothing_is_lost(
    database: Database, clock: Clock, tmp_path: Any, log: LogCapture
) -> None:
    away = Database.connect(f"sqlite+aiosqlite:///{tmp_path}/no/such/folder.db")
    one = writer(away, clock, "ing_1", log)
    count(one, 3, 1)
    assert not await one.write()
    assert [entry["event"] for entry in log.entries] == ["slo_events_wait_for_the_database"]
    clock.now += SLOT
    count(one, 1, 0)
    back = BudgetWriter(database, one.tally, "ing_1", clock, one.log)
    assert await back.write()
    assert (await seen(database, clock))["success", "pro"]["1h"] == Count(4, 1)
    await away.close()


def test_slots_that_are_written_and_over_are_forgotten(clock: Clock) -> None:
    tally = Tally(clock)
    tally.count("success", "pro", good=True)
    tally.forget(NOW + 2 * SLOT)
    assert len(tally.take()) == 1  # it had not been written
    tally.forget(NOW)
    tally.count("success", "pro", good=True)
    assert tally.take() == {(slot_of(NOW), "success", "pro"): Count(2, 0)}  # the slot goes on
    tally.forget(NOW + 2 * SLOT)
    tally.count("success", "pro", good=True)
    assert tally.take() == {(slot_of(NOW), "success", "pro"): Count(1, 0)}


def test_a_slot_begins_on_five_minutes() -> None:
    assert slot_of(NOW) == NOW.replace(minute=0, second=0)
    assert slot_of(slot_of(NOW)) == slot_of(NOW)


def test_attainment_and_budget_are_arithmetic() -> None:
    promised = objectives()
    allowed = 1 - promised.objective("success", "pro")
    found = {("success", "pro"): {"30d": Count(9_990, 10), "1h": Count(0, 4)}}
    levels = {(each.sli, each.tier): each for each in service_levels(found, promised, NOW).service_levels}
    assert len(levels) == 18
    pro = levels["success", "pro"]
    assert pro.windows["30d"].attainment == pytest.approx(0.999)
    assert pro.windows["1h"].burn_rate == pytest.approx(1 / allowed)
    assert pro.windows["5m"].attainment is None
    assert pro.error_budget.allowed == pytest.approx(10_000 * allowed)
    assert pro.error_budget.remaining == pytest.approx(1 - 10 / (10_000 * allowed))
    assert levels["ttfa", "free"].error_budget.remaining is None
    assert levels["ttfa", "free"].threshold_s == promised.threshold("ttfa", "free")
