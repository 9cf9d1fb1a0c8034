"""Workers whose database or Valkey goes away, or loses an answer: nothing is lost or made twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import pytest

from api.cache.bus import Bus
from api.cache.client import Cache
from api.cache.embedded import EmbeddedValkey
from api.store.database import Database
from api.streams import keys
from api.streams.writer import FeedWriter
from tests.api.generations.conftest import QUICK, Bench, eventually
from tests.api.generations.faults import (
    SEED,
    SHORT,
    UnreliableDatabase,
    check_made_once,
)


async def test_a_database_that_comes_back_in_time_costs_nothing(bench: Bench) -> None:
    made = await bench.create(await bench.account(), seed=SEED, num_tracks=2)
    flaky = UnreliableDatabase(bench.db)
    gate = bench.tiny.hold(3)
    async with bench.working(db=cast(Database, flaky)):
        await bench.reached(3)
        flaky.away = True
        gate.set()
        await eventually(lambda: bench.tiny.finished == 2)
        refused = flaky.refused
        await eventually(lambda: flaky.refused > refused + 5)
        flaky.away = False
        await check_made_once(bench, made.id, (1,))


async def test_a_database_that_is_away_at_the_start_is_waited_for(bench: Bench) -> None:
    made = await bench.create(await bench.account(), seed=SEED, num_tracks=2)
    flaky = UnreliableDatabase(bench.db)
    flaky.away = True
    async with bench.working(db=cast(Database, flaky)):
        await eventually(lambda: flaky.refused > 10)
        flaky.away = False
        await check_made_once(bench, made.id, (1,))


async def test_a_commit_whose_answer_was_lost_is_made_once(bench: Bench) -> None:
    """The worker writes its result again, finds that it stands there, and does not throw its own audio away."""
    made = await bench.create(await bench.account(), seed=SEED, num_tracks=2)
    flaky = UnreliableDatabase(bench.db)

    async def pace(index: int) -> None:
        if index == 3:  # from here on it only writes its result
            flaky.lost_answers = 2

    bench.tiny.pace = pace
    asleep = replace(QUICK, heartbeat_s=1000.0, housekeeping_s=1000.0)
    async with bench.working(db=cast(Database, flaky), timing=asleep):
        await check_made_once(bench, made.id, (1,))
        await eventually(lambda: flaky.lost_answers == 0)
    assert await bench.outbox("object.delete") == []


async def test_a_lease_that_its_worker_was_not_told_of_ends_by_itself(bench: Bench, no_backoff: None) -> None:
    flaky = UnreliableDatabase(bench.db)
    async with bench.working(db=cast(Database, flaky), timing=replace(SHORT, report_s=1000.0)):
        await eventually(lambda: flaky.committed == 2)  # it has reported, and forgotten old workers
        flaky.lost_answers = 1
        made = await bench.create(await bench.account(), seed=SEED, num_tracks=2)
        await check_made_once(bench, made.id, (2,))
    assert bench.tiny.started == 2


@pytest.fixture
async def own_valkey() -> AsyncIterator[tuple[EmbeddedValkey, Cache]]:
    """A Valkey that may be stopped."""
    with EmbeddedValkey() as server:
        connected = Cache.connect(server.url, prefix="own:")
        yield server, connected
        await connected.close()


async def test_without_valkey_generations_are_made_all_the_same(
    bench: Bench, own_valkey: tuple[EmbeddedValkey, Cache]
) -> None:
    server, cache = own_valkey
    bus = Bus(cache)
    gate = bench.tiny.hold(2)
    owner = await bench.account()
    made = await bench.create(owner, seed=SEED, num_tracks=2)
    async with bench.working(bus=bus, feed=FeedWriter(cache, bus)):
        await bench.reached(2)
        await asyncio.to_thread(server.stop)
        later = await bench.create(owner, seed=SEED, num_tracks=2)
        gate.set()
        await check_made_once(bench, made.id, (1,))
        await check_made_once(bench, later.id, (1,))
    await bus.close()


async def test_a_flush_loses_no_work_and_no_piece(bench: Bench) -> None:
    gate = bench.tiny.hold(3)
    made = await bench.create(await bench.account(), seed=SEED, num_tracks=2)
    async with bench.working():
        await bench.reached(3)
        await bench.cache.redis.flushall()
        gate.set()
        await check_made_once(bench, made.id, (1,))
    stream: Any = await bench.cache.redis.xrange(keys.track_key(bench.cache, made.id, 0))
    pcm = b"".join(fields[b"p"] for _, fields in stream)
    assert len(pcm) == 2 * 32_000
