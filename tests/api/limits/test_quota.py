"""Quota on both databases: exact under concurrency, given back once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from api.errors import ApiError, ErrorCode
from api.limits import quota
from api.limits.quota import Reservation
from api.limits.quota_sql import WINDOWS, WindowName
from api.limits.tiers import Tier
from api.store import schema
from api.store.database import Database
from tests.api.limits.rows import NOW, add_account, add_generation, tier


@pytest.fixture
async def account(database: Database) -> str:
    return await add_account(database)


async def take(
    database: Database, account: str, limits: Tier, audio_s: float = 10.0, now: datetime = NOW
) -> list[Reservation]:
    async with database.begin() as conn:
        return await quota.reserve(conn, account, limits, generations=1, audio_s=audio_s, now=now)


async def used(database: Database, account: str, now: datetime = NOW) -> dict[str, tuple[int, float]]:
    async with database.read() as conn:
        found = await quota.usage(conn, account, tier(), now)
    return {each.window: (each.generations, each.audio_s) for each in found}


async def test_every_window_is_counted(database: Database, account: str) -> None:
    windows = await take(database, account, tier())
    assert [(each["window"], each["starts_at"]) for each in windows] == [
        ("hour", "2026-03-31T22:00:00+00:00"),
        ("day", "2026-03-31T00:00:00+00:00"),
        ("month", "2026-03-01T00:00:00+00:00"),
    ]
    assert await used(database, account) == {"hour": (1, 10.0), "day": (1, 10.0), "month": (1, 10.0)}


async def test_of_fifty_at_once_exactly_the_limit_passes(database: Database, account: str, database_url: str) -> None:
    gateways = [Database.connect(database_url) for _ in range(5)]
    results = await asyncio.gather(
        *(take(gateways[each % 5], account, tier()) for each in range(50)), return_exceptions=True
    )
    await asyncio.gather(*(gateway.close() for gateway in gateways))
    refused = [each for each in results if isinstance(each, ApiError)]
    assert len(results) - len(refused) == 10
    assert {error.code for error in refused} == {ErrorCode.QUOTA_EXCEEDED}
    assert await used(database, account) == {"hour": (10, 100.0), "day": (10, 100.0), "month": (10, 100.0)}


async def test_the_refusal_says_which_window_and_when(database: Database, account: str) -> None:
    limits = tier(generations_per_hour=1)
    await take(database, account, limits)
    with pytest.raises(ApiError, match="free tier allows 1 generations per hour") as caught:
        await take(database, account, limits)
    assert caught.value.status_code == 429
    assert caught.value.headers == {"Retry-After": str(19 * 60 + 30)}
    assert caught.value.details == {
        "window": "hour",
        "unit": "generations",
        "limit": 1,
        "used": 1,
        "reset_at": "2026-03-31T23:00:00+00:00",
    }


async def test_a_refusal_takes_from_no_window(database: Database, account: str) -> None:
    limits = tier(generations_per_day=1)
    await take(database, account, limits)
    with pytest.raises(ApiError) as caught:
        await take(database, account, limits)
    assert caught.value.details["window"] == "day"
    assert caught.value.details["reset_at"] == "2026-04-01T00:00:00+00:00"
    assert await used(database, account) == {"hour": (1, 10.0), "day": (1, 10.0), "month": (1, 10.0)}


async def test_seconds_of_audio_are_limited_by_the_day(database: Database, account: str) -> None:
    limits = tier(audio_s_per_day=100, max_duration_s=30, max_tracks=2)
    await take(database, account, limits, audio_s=60)
    with pytest.raises(ApiError, match="100 seconds of audio per day") as caught:
        await take(database, account, limits, audio_s=40.1)
    assert caught.value.details["unit"] == "audio_s"
    assert caught.value.details["used"] == 60
    await take(database, account, limits, audio_s=40)


async def test_more_than_an_empty_window_holds_is_a_bug(database: Database, account: str) -> None:
    async with database.begin() as conn:
        with pytest.raises(ValueError, match="more than a day of free holds"):
            await quota.reserve(conn, account, tier(), generations=1, audio_s=1800.1, now=NOW)
        with pytest.raises(ValueError, match="more than a hour of free holds"):
            await quota.reserve(conn, account, tier(), generations=11, audio_s=1, now=NOW)


async def test_sums_of_floats_fit(database: Database, account: str) -> None:
    limits = tier(audio_s_per_day=1, max_duration_s=0.5, max_tracks=2)
    for _ in range(10):
        await take(database, account, limits, audio_s=0.1)
    with pytest.raises(ApiError):
        await take(database, account, limits, audio_s=0.1)


async def test_the_next_hour_begins_anew(database: Database, account: str) -> None:
    limits = tier(generations_per_hour=1)
    await take(database, account, limits)
    later = NOW + timedelta(minutes=20)
    await take(database, account, limits, now=later)
    assert await used(database, account, later) == {"hour": (1, 10.0), "day": (2, 20.0), "month": (2, 20.0)}


async def test_accounts_do_not_share(database: Database, account: str) -> None:
    limits = tier(generations_per_hour=1)
    await take(database, account, limits)
    await take(database, await add_account(database, "acc_2"), limits)


async def test_enterprise_has_no_hourly_limit(database: Database, account: str) -> None:
    limits = tier("enterprise")
    for _ in range(12):
        await take(database, account, limits, audio_s=4800)
    async with database.read() as conn:
        hour, day, month = await quota.usage(conn, account, limits, NOW)
    assert (hour.generations, hour.generations_limit, hour.audio_s_limit) == (12, None, None)
    assert (day.generations_limit, day.audio_s_limit) == (None, None)
    assert month.resets_at == datetime(2026, 4, 1, tzinfo=UTC)


async def test_usage_of_an_account_that_has_used_nothing(database: Database, account: str) -> None:
    async with database.read() as conn:
        hour, day, month = await quota.usage(conn, account, tier(), NOW)
    assert (hour.generations, hour.generations_limit, hour.audio_s) == (0, 10, 0.0)
    assert (day.generations_limit, day.audio_s_limit) == (50, 1800)
    assert (month.generations_limit, month.audio_s_limit) == (None, None)


async def accepted(database: Database, account: str) -> str:
    async with database.begin() as conn:
        windows = await quota.reserve(conn, account, tier(), generations=1, audio_s=10.0, now=NOW)
        return await add_generation(conn, account, quota_windows=windows)


async def give_back(database: Database, generation_id: str) -> bool:
    async with database.begin() as conn:
        return await quota.refund(conn, generation_id)


async def test_given_back_once(database: Database, account: str) -> None:
    first, _ = await accepted(database, account), await accepted(database, account)
    assert await give_back(database, first)
    assert not await give_back(database, first)
    assert await used(database, account) == {"hour": (1, 10.0), "day": (1, 10.0), "month": (1, 10.0)}


async def test_given_back_once_by_many_at_the_same_time(database: Database, account: str) -> None:
    first, _ = await accepted(database, account), await accepted(database, account)
    gave = await asyncio.gather(*(give_back(database, first) for _ in range(10)))
    assert sorted(gave) == [False] * 9 + [True]
    assert await used(database, account) == {"hour": (1, 10.0), "day": (1, 10.0), "month": (1, 10.0)}


async def test_many_are_taken_and_given_back_at_the_same_time(database: Database, account: str) -> None:
    held = [await accepted(database, account) for _ in range(8)]
    returns = [give_back(database, each) for each in held]
    takes = [take(database, account, tier("pro")) for _ in range(8)]
    await asyncio.gather(*(each for pair in zip(returns, takes, strict=True) for each in pair))
    assert await used(database, account) == {"hour": (8, 80.0), "day": (8, 80.0), "month": (8, 80.0)}


async def test_what_is_rolled_back_is_not_given_back(database: Database, account: str) -> None:
    held = await accepted(database, account)

    async def dies() -> None:
        async with database.begin() as conn:
            assert await quota.refund(conn, held)
            raise RuntimeError("the worker is gone")

    with pytest.raises(RuntimeError, match="the worker is gone"):
        await dies()
    assert (await used(database, account))["hour"] == (1, 10.0)
    assert await give_back(database, held)
    assert (await used(database, account))["hour"] == (0, 0.0)


async def test_nothing_is_given_back_for_what_holds_nothing(database: Database, account: str) -> None:
    async with database.begin() as conn:
        test_mode = await add_generation(conn, account)
    assert not await give_back(database, test_mode)
    assert not await give_back(database, "gen_nowhere")


async def test_old_windows_are_removed(database: Database, account: str) -> None:
    await take(database, account, tier())
    held = await accepted(database, account)
    for days, left in ((1, 3), (3, 2), (100, 1), (1000, 0)):
        async with database.begin() as conn:
            await quota.purge(conn, NOW + timedelta(days=days))
            count = await conn.scalar(select(func.count()).select_from(schema.usage_windows))
        assert count == left
    assert await give_back(database, held)  # its windows are gone; nobody minds


instants = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(instants, st.sampled_from(WINDOWS))
def test_windows_follow_each_other(now: datetime, window: WindowName) -> None:
    start, end = quota.window_start(window, now), quota.window_end(window, now)
    assert start <= now < end
    assert quota.window_start(window, end) == end
    assert quota.window_start(window, end - timedelta(microseconds=1)) == start


def test_windows_are_in_utc() -> None:
    now = datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    assert quota.window_start("month", now) == datetime(2025, 12, 1, tzinfo=UTC)
    assert quota.window_start("hour", now) == datetime(2025, 12, 31, 19, tzinfo=UTC)
