"""Request rates against a real Valkey."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from api.cache.client import Cache
from api.errors import ApiError, ErrorCode
from api.limits import shared_counters
from api.limits.rates import RateKind, Rates, window_state
from tests.api.limits.counting import refusals, tiers
from tests.api.limits.rows import principal


@pytest.fixture
async def make(cache: Cache) -> AsyncIterator[Callable[[], Rates]]:
    """Counters of another process on the same cache."""
    made: list[Rates] = []

    def make() -> Rates:
        made.append(Rates(cache, tiers()))
        return made[-1]

    yield make
    for each in made:
        await each.close()


async def test_requests_are_counted_and_say_what_is_left(make: Callable[[], Rates]) -> None:
    rates = make()
    states = [await rates.check_request(principal()) for _ in range(5)]
    assert [state.remaining for state in states] == [4, 3, 2, 1, 0]
    assert {(state.policy, state.limit, state.window_s) for state in states} == {("requests", 5, 60)}
    assert all(0 < state.reset_s <= 60 for state in states)
    assert not rates.degraded


@given(
    st.integers(1, 10_000),
    st.integers(1, 3600),
    st.integers(0, 10_000),
    st.floats(0, 1),
    st.integers(0, 10_000),
    st.floats(0, 1, exclude_min=True),
)
def test_after_the_reset_there_is_more(
    limit: int, window_s: int, previous: int, sliding: float, current: int, left: float
) -> None:
    assume(sliding <= left)  # what is left of the one before cannot outlast this one
    ttl_s, current_ttl_s = sliding * window_s, (1 + left) * window_s
    remaining, reset_s = window_state(limit, window_s, previous, ttl_s, current, current_ttl_s)
    assert 0 <= remaining <= limit
    assert 0 <= reset_s <= window_s
    if previous * ttl_s == 0 and current == 0:
        assert (remaining, reset_s) == (limit, 0.0)
        return
    count = math.floor(previous * ttl_s / window_s) + current
    later_s = reset_s + 1e-6 * window_s  # a moment later
    if later_s < current_ttl_s - window_s:
        then = math.floor(previous * max(0.0, ttl_s - later_s) / window_s) + current
    else:  # this window has become the one before
        then = math.floor(current * max(0.0, current_ttl_s - later_s) / window_s)
    assert then < count or count == 0


async def test_a_refusal_carries_the_headers(make: Callable[[], Rates]) -> None:
    rates = make()
    for _ in range(5):
        await rates.check_request(principal())
    with pytest.raises(ApiError) as caught:
        await rates.check_request(principal())
    headers = caught.value.headers or {}
    assert caught.value.code is ErrorCode.RATE_LIMITED
    assert caught.value.status_code == 429
    assert 1 <= int(headers["Retry-After"]) <= 61
    assert headers["X-RateLimit-Limit"] == "5"
    assert headers["X-RateLimit-Remaining"] == "0"
    assert headers["RateLimit"].startswith('"requests";r=0;t=')
    assert caught.value.details == {"policy": "requests", "limit": 5, "window_s": 60}


async def test_all_processes_count_together(make: Callable[[], Rates]) -> None:
    first, second = make(), make()
    results = await asyncio.gather(
        *((first, second)[each % 2].check_request(principal()) for each in range(20)), return_exceptions=True
    )
    assert sum(isinstance(each, ApiError) for each in results) == 15


async def test_accounts_and_tiers_count_apart(make: Callable[[], Rates]) -> None:
    rates = make()
    for _ in range(5):
        await rates.check_request(principal())
    assert (await rates.check_request(principal("acc_2"))).remaining == 4
    assert (await rates.check_request(principal(tier="pro"))).remaining == 599


async def test_kinds_and_keys_count_apart(make: Callable[[], Rates]) -> None:
    rates = make()
    assert len(await refusals(rates, 5)) == 2
    assert await refusals(rates, 3, key="192.0.2.2") == []
    assert await refusals(rates, 3, kind="register") == []


@pytest.mark.parametrize(
    ("kind", "one", "same"),
    [
        ("login_ip", "2001:db8:0:1::1", "2001:db8:0:1:ffff::2"),  # one household has a whole /64
        ("login_ip", "192.0.2.1", "::ffff:192.0.2.1"),
        ("login_account", "Ada@Example.org", "ada@example.org"),
    ],
)
async def test_names_of_the_same_one(make: Callable[[], Rates], kind: RateKind, one: str, same: str) -> None:
    rates = make()
    limit = {"login_ip": 3, "login_account": 10}.get(kind, 0)
    assert await refusals(rates, limit, kind, one) == []
    assert len(await refusals(rates, 1, kind, same)) == 1


async def test_other_networks_are_others(make: Callable[[], Rates]) -> None:
    rates = make()
    await refusals(rates, 3, key="2001:db8:0:1::1")
    assert await refusals(rates, 1, key="2001:db8:0:2::1") == []
    assert await refusals(rates, 1, key="no address \ud800") == []


async def test_what_is_stored_names_nobody(make: Callable[[], Rates], cache: Cache) -> None:
    rates = make()
    await rates.hit("login_account", "ada@example.org")
    await rates.check_request(principal())
    keys = [key.decode() if isinstance(key, bytes) else key for key in await cache.redis.keys("*")]
    assert len(keys) == 2
    assert all(key.startswith(cache.key("rate")) for key in keys)
    assert {"login_account", "requests"} == {key.removeprefix(cache.key("rate", "")).split("/")[0] for key in keys}
    assert not [key for key in keys if "ada@" in key or "example" in key or "acc_1" in key]  # "ada" is a number, too
    assert all([await cache.redis.pttl(key) > 0 for key in keys])


async def test_a_burst_does_not_make_the_cache_look_gone(
    make: Callable[[], Rates], caplog: pytest.LogCaptureFixture
) -> None:
    rates = make()
    await asyncio.gather(*(rates.hit("upload", f"acc_{number}") for number in range(2000)))
    assert not rates.degraded
    assert caplog.records == []


async def test_hits_of_one_moment_are_one_command(make: Callable[[], Rates], cache: Cache) -> None:
    rates = make()
    await rates.hit("upload", "connected")
    before = (await cache.redis.info("commandstats"))["cmdstat_eval"]["calls"]
    assert len(await refusals(rates, 100, key="192.0.2.77")) == 97
    assert (await cache.redis.info("commandstats"))["cmdstat_eval"]["calls"] == before + 1


async def test_a_held_up_event_loop_does_not_make_the_cache_look_gone(
    make: Callable[[], Rates], caplog: pytest.LogCaptureFixture
) -> None:
    rates = make()
    await rates.hit("upload", "connected")
    hitting = asyncio.ensure_future(rates.hit("upload", "one"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    time.sleep(1.5 * shared_counters.PATIENCE_S)  # noqa: ASYNC251 - the loop is held up, that is what is tested
    await hitting
    assert not rates.degraded
    assert caplog.records == []


async def test_a_caller_that_goes_away_leaves_the_others_their_count(make: Callable[[], Rates]) -> None:
    rates = make()
    hitting = [asyncio.ensure_future(rates.hit("upload", f"acc_{number}")) for number in range(3)]
    await asyncio.sleep(0)
    hitting[0].cancel()
    results = await asyncio.gather(*hitting, return_exceptions=True)
    assert [type(each) for each in results] == [asyncio.CancelledError, type(None), type(None)]


async def test_the_window_slides(cache: Cache) -> None:
    counters = shared_counters.SharedCounters(cache)
    now, before = (cache.key("rate", "name", age) for age in ("now", "before"))
    # Three quarters of this window are over, and the one before had eight: two of them still count.
    await cache.redis.set(before, 8, px=15_000)
    await cache.redis.set(now, 1, px=75_000)
    window = await counters.hit("name", 4, 60)
    assert (window.allowed, window.previous, window.current) == (True, 8, 2)
    assert 10 < window.previous_ttl_s <= 15
    assert 70 < window.current_ttl_s <= 75
    assert not (await counters.hit("name", 3, 60)).allowed
    # This window is over: it is the one before now.
    await cache.redis.delete(before)
    await cache.redis.set(now, 6, px=45_000)
    window = await counters.hit("name", 100, 60)
    assert (window.previous, window.current) == (6, 1)
    assert 40 < window.previous_ttl_s <= 45
    assert 100 < window.current_ttl_s <= 105
    await counters.close()
