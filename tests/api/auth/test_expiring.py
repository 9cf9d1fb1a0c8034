"""What is remembered is forgotten in time."""

from __future__ import annotations

from api.auth.expiring import ExpiringCache
from tests.api.auth.conftest import ManualClock


def test_a_value_is_kept_for_its_time(clock: ManualClock) -> None:
    cache: ExpiringCache[int] = ExpiringCache(clock, ttl_s=3, max_entries=10)
    cache.put("a", 1)
    clock.advance(2.9)
    assert cache.get("a") == 1
    clock.advance(0.1)
    assert cache.get("a") is None
    assert cache.get("never") is None


def test_reading_does_not_prolong_it_and_storing_does(clock: ManualClock) -> None:
    cache: ExpiringCache[int] = ExpiringCache(clock, ttl_s=3, max_entries=10)
    cache.put("a", 1)
    clock.advance(2)
    cache.get("a")
    cache.put("a", 2)
    clock.advance(2)
    assert cache.get("a") == 2
    clock.advance(1)
    assert cache.get("a") is None


def test_a_clock_that_is_set_back_makes_nothing_live_longer(clock: ManualClock) -> None:
    cache: ExpiringCache[int] = ExpiringCache(clock, ttl_s=3, max_entries=10)
    cache.put("a", 1)
    clock.advance(-3600)
    assert cache.get("a") is None


def test_the_oldest_makes_room(clock: ManualClock) -> None:
    cache: ExpiringCache[int] = ExpiringCache(clock, ttl_s=3, max_entries=2)
    for name, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        cache.put(name, value)
    assert [cache.get(name) for name in "abc"] == [3, None, 4]
    cache.clear()
    assert cache.get("a") is None
