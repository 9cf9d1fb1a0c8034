"""What is known of models that sleep, and what it means for those who wait."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from typing import Any

import pytest

from api.cache.client import Cache
from api.generations.starts import AWAKE, KEPT_S, Start, Starts, publish
from api.generations.throughput import Throughput
from api.generations.view import Mode
from autoscaling.fairness import Places
from autoscaling.starting import Expected
from tests.api.generations.conftest import MakeBench, ManualClock
from tests.api.limits.rows import NOW, Hands


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def starts(cache: Cache, clock: Hands) -> Starts:
    return Starts(cache, clock)


async def test_it_is_asked_for_once_a_second(cache: Cache, starts: Starts, clock: Hands) -> None:
    await starts.refresh()
    assert starts.of("tiny") == AWAKE
    await publish(cache, {"tiny": (8.5, None), "small": (0.0, NOW.timestamp())})
    await starts.refresh()
    assert starts.of("tiny") == AWAKE
    clock.now += timedelta(seconds=1)
    await starts.refresh()
    assert starts.of("tiny") == Start(8.5)
    assert starts.of("small") == Start(0.0, NOW)
    assert 0 < await cache.redis.ttl(cache.key("autoscaler", "starts")) <= KEPT_S


async def test_replicas_that_start_are_expected_when_they_are_due(cache: Cache, starts: Starts, clock: Hands) -> None:
    now = NOW.timestamp()
    due = {"tiny": [(now + 12.5, 2), (now + 20.0, 1)], "small": [(now + 8.0, 2)]}
    await publish(cache, {"tiny": (0.0, now), "small": (8.0, None)}, due)
    await starts.refresh()
    assert starts.starting("tiny") == (Expected(12.5, 2), Expected(20.0))
    assert starts.starting("small") == (Expected(0.0),)  # once it is awake
    assert starts.starting("large") == ()
    assert 0 < await cache.redis.ttl(cache.key("autoscaler", "starting")) <= KEPT_S
    clock.move(10.0)  # nothing new was said, and it is later
    assert starts.starting("tiny") == (Expected(2.5, 2), Expected(10.0))
    clock.move(20.0)
    assert starts.starting("tiny") == (Expected(10.0), Expected(17.5, 2))  # they are late


async def test_an_autoscaler_of_an_earlier_version_says_nothing_of_them(
    cache: Cache, starts: Starts, clock: Hands
) -> None:
    await cache.redis.set(cache.key("autoscaler", "starts"), '{"tiny": [8.5, null]}')
    await starts.refresh()
    assert (starts.of("tiny"), starts.starting("tiny")) == (Start(8.5), ())
    await publish(cache, {"tiny": (8.5, None)}, {"tiny": [(NOW.timestamp() + 8.5, 2)]})
    clock.move(1.0)
    await starts.refresh()
    assert starts.starting("tiny") == (Expected(0.0),)
    # What one of an earlier version reads has the form that it knows.
    assert await cache.redis.get(cache.key("autoscaler", "starts")) in {
        b'{"tiny": [8.5, null]}',
        '{"tiny": [8.5, null]}',
    }
    await cache.redis.flushall()
    clock.move(1.0)
    await starts.refresh()
    assert (starts.of("tiny"), starts.starting("tiny")) == (AWAKE, ())


def test_workers_say_what_a_replica_takes() -> None:
    measured = Throughput({"tiny": 8, "small": 4}, per_replica={"tiny": Places(4, 1)}).as_capacity()
    assert measured["tiny"]["per_replica"] == 4
    assert "per_replica" not in measured["small"]  # has as many with any number of replicas


async def test_while_one_asks_the_others_go_by_what_was_heard_last(
    cache: Cache, starts: Starts, clock: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(cache, {"tiny": (8.5, None)})
    await starts.refresh()
    clock.move(1.0)
    answered, asked, mget = asyncio.Event(), asyncio.Event(), cache.redis.mget

    async def slow(*keys: str) -> Any:
        asked.set()
        await answered.wait()
        return await mget(*keys)

    monkeypatch.setattr(cache.redis, "mget", slow)
    monkeypatch.setattr("api.generations.starts.PATIENCE_S", 60.0)
    asking = asyncio.create_task(starts.refresh())
    await asked.wait()
    await starts.refresh()  # somebody else has asked in this second
    assert starts.of("tiny") == Start(8.5)
    await cache.redis.delete(cache.key("autoscaler", "starts"))
    answered.set()
    await asking
    assert starts.of("tiny") == AWAKE


async def test_a_valkey_that_hangs_keeps_nobody_waiting(
    cache: Cache, starts: Starts, clock: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(cache, {"tiny": (8.5, None)})
    await starts.refresh()
    clock.move(1.0)

    async def hang(*_keys: str) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(cache.redis, "mget", hang)
    await starts.refresh()
    assert starts.of("tiny") == AWAKE


async def test_whoever_hears_nothing_takes_all_for_awake(cache: Cache, clock: Hands) -> None:
    await publish(cache, {"tiny": (8.5, None)})
    starts = Starts(Cache.connect("redis://127.0.0.1:1"), clock)
    await starts.refresh()
    assert starts.of("tiny") == AWAKE
    assert starts.served_s("tiny") == math.inf


async def test_a_track_that_waited_for_a_start_says_nothing_about_speed(
    cache: Cache, starts: Starts, clock: Hands
) -> None:
    measured = Throughput({"tiny": 1}, starts.served_s)
    await publish(cache, {"tiny": (8.5, None)})
    await starts.refresh()
    measured.finished("tiny", 500, 1.0)
    assert measured.as_capacity()["tiny"]["steps_per_s"] is None
    await publish(cache, {"tiny": (0.0, NOW.timestamp())})
    clock.now += timedelta(seconds=3)
    await starts.refresh()
    measured.finished("tiny", 500, 10.0)
    assert measured.as_capacity()["tiny"]["steps_per_s"] is None
    measured.finished("tiny", 500, 2.0)
    assert measured.as_capacity()["tiny"]["steps_per_s"] == 250.0


@pytest.mark.parametrize(("mode", "expiry_s"), [("stream", 60.0), ("async", 3600.0)])
async def test_who_wakes_a_model_up_does_not_expire_while_it_starts(
    make_bench: MakeBench, manual_clock: ManualClock, mode: Mode, expiry_s: float
) -> None:
    """A start may take longer than a stream may wait: patience counts from when a replica is expected to serve."""
    bench = make_bench(manual_clock)
    owner = await bench.account()
    await publish(bench.cache, {"tiny": (92.0, None), "small": (0.0, manual_clock().timestamp())})
    asleep, awake = [await bench.create(owner, mode=mode, model_id=name) for name in ("tiny", "small")]
    assert (awake.expires_at - awake.created_at).total_seconds() == expiry_s
    manual_clock.forward(expiry_s + 91.9)
    assert (await bench.service.get(owner, awake.id)).state == "expired"
    assert (await bench.service.get(owner, asleep.id)).state == "queued"
    manual_clock.forward(0.1)
    assert (await bench.service.get(owner, asleep.id)).state == "expired"
