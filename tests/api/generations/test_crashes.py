"""Workers that die or stall at every point of a generation's life: nothing is lost or made twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any, cast

import pytest
from sqlalchemy import update

from api.generations.view import State
from api.store.database import Database
from api.store.schema import generations
from tests.api.fakes import FakeGenerator
from tests.api.generations.conftest import PATIENCE_S, QUICK, Bench, eventually
from tests.api.generations.faults import (
    SEED,
    SHORT,
    Held,
    HeldFeed,
    HeldLibrary,
    UnreliableDatabase,
    check_made_once,
    doomed,
)

POINTS = ("first_lease", "leased", "half_made", "before_storing", "after_storing", "committing", "committed")


@pytest.mark.parametrize("point", POINTS)
async def test_a_worker_that_dies_is_followed_by_another(bench: Bench, no_backoff: None, point: str) -> None:
    owner = await bench.account()
    made = await bench.create(owner, seed=SEED, num_tracks=2)
    held, values = Held(), dict[str, Any](timing=SHORT)
    if point in ("leased", "half_made"):
        index = 0 if point == "leased" else 2
        doomed_generator = FakeGenerator()
        doomed_generator.hold(index)
        values["backends"] = {**bench.generators, "tiny": doomed_generator}
        held.reached = doomed_generator.reached[index]
    elif point in ("before_storing", "after_storing"):
        library = HeldLibrary(bench.objects, bench.audio._vault)
        library.held, library.after = held, point == "after_storing"
        values["audio"] = library
    elif point == "committed":
        feed = HeldFeed(bench.cache, bench.bus)
        feed.held = held
        values["feed"] = feed
    else:
        values["db"] = flaky = UnreliableDatabase(bench.db)
        if point == "first_lease":
            flaky.held = held
        else:  # no heartbeat, so that the last transaction is the one that hangs
            values["timing"] = replace(SHORT, heartbeat_s=1000.0, housekeeping_s=1000.0)
            bench.tiny.pace = commit_is_held(flaky, held)
    async with doomed(bench.worker(**values)):
        async with asyncio.timeout(PATIENCE_S):
            await held.reached.wait()
    bench.tiny.pace = None
    async with bench.working(timing=SHORT):
        await check_made_once(bench, made.id, (1, 2))
    assert await bench.used(owner) == 1


def commit_is_held(flaky: UnreliableDatabase, held: Held) -> Any:
    """From the last chunk on no transaction of the worker commits."""

    async def pace(index: int) -> None:
        if index == 3:
            flaky.held = held

    return pace


async def test_a_worker_that_always_dies_is_not_followed_for_ever(bench: Bench, no_backoff: None) -> None:
    owner = await bench.account()
    made = await bench.create(owner)
    for attempt in range(1, 5):
        generator = FakeGenerator()
        generator.hold(0)
        async with doomed(bench.worker(timing=SHORT, backends={"tiny": generator})):
            async with asyncio.timeout(PATIENCE_S):
                await generator.reached[0].wait()
            assert (await bench.row(made.id))["attempt"] == attempt
    async with bench.working(timing=SHORT):
        view = await bench.until(made.id)
    assert (view.state, view.attempt) == (State.FAILED, 4)
    assert view.error is not None
    assert view.error["code"] == "replica_lost"
    assert await bench.used(owner) == 0
    assert await bench.events(made.id) == ["generation.failed"]


async def test_a_cancel_while_its_worker_is_dead_is_kept(bench: Bench) -> None:
    owner = await bench.account()
    made = await bench.create(owner)
    generator = FakeGenerator()
    generator.hold(1)
    async with doomed(bench.worker(timing=SHORT, backends={"tiny": generator})):
        async with asyncio.timeout(PATIENCE_S):
            await generator.reached[1].wait()
    assert (await bench.service.cancel(owner, made.id)).state == State.CANCELLING
    async with bench.working(timing=SHORT):
        assert (await bench.until(made.id)).state == State.CANCELLED
    assert bench.tiny.started == 0
    assert await bench.events(made.id) == ["generation.cancelled"]


# ------------------------------------------------------------------------------------------------ fences
async def expire_lease(bench: Bench, generation_id: str) -> None:
    async with bench.db.begin() as conn:
        of = generations.c.id == generation_id
        await conn.execute(update(generations).where(of).values(lease_expires_at=bench.clock()))


async def test_a_stale_worker_is_refused(bench: Bench, no_backoff: None) -> None:
    """One that slept through the end of its lease comes back with audio; somebody else is at work by then."""
    made = await bench.create(await bench.account(), seed=SEED, num_tracks=2)
    sleeper, heir = FakeGenerator(), FakeGenerator()
    sleeper.hold(2)
    heir.hold(2)
    asleep = replace(QUICK, heartbeat_s=1000.0, housekeeping_s=1000.0)
    async with bench.working(backends={"tiny": sleeper}, timing=asleep, slots={"tiny": 2}) as stale:
        async with asyncio.timeout(PATIENCE_S):
            await sleeper.reached[2].wait()
        await expire_lease(bench, made.id)
        async with bench.working(backends={"tiny": heir}):
            async with asyncio.timeout(PATIENCE_S):
                await heir.reached[2].wait()
            assert (await bench.row(made.id))["attempt"] == 2
            await stale.stop()
            sleeper.gates[2].set()
            await eventually(lambda: stale.running == 0)
            assert sleeper.finished == 2
            row = await bench.row(made.id)
            assert (row["state"], row["attempt"]) == ("running", 2)
            heir.gates[2].set()
            await check_made_once(bench, made.id, (2,))
    thrown_away = {each["object_key"] for each in await bench.outbox("object.delete")}
    assert len(thrown_away) == 2
    assert not thrown_away & {track["object_key"] for track in await bench.track_rows(made.id)}


async def test_a_heartbeat_that_finds_its_lease_gone_stops_the_work(bench: Bench, no_backoff: None) -> None:
    made = await bench.create(await bench.account())
    bench.tiny.hold(1)
    async with bench.working(slots={"tiny": 1}):
        await bench.reached(1)
        async with bench.db.begin() as conn:
            of = generations.c.id == made.id
            await conn.execute(update(generations).where(of).values(lease_owner="wrk_another"))
        await eventually(lambda: bench.tiny.closed == 1)
        bench.tiny.gates[1].set()
        await expire_lease(bench, made.id)
        assert (await bench.until(made.id)).attempt == 2


async def test_a_worker_that_cannot_extend_its_lease_stops_by_itself(bench: Bench, no_backoff: None) -> None:
    made = await bench.create(await bench.account(), seed=SEED, num_tracks=2)
    flaky = UnreliableDatabase(bench.db)
    gate = bench.tiny.hold(1)
    async with bench.working(db=cast(Database, flaky), timing=SHORT):
        await bench.reached(1)
        flaky.away = True
        await eventually(lambda: bench.tiny.closed == 2)
        assert (await bench.row(made.id))["state"] == "running"
        gate.set()
        flaky.away = False
        await check_made_once(bench, made.id, (2,))


async def test_many_workers_never_make_the_same_attempt(bench: Bench) -> None:
    owners = [await bench.account(tier) for tier in ("free", "pro", "enterprise", "pro")]
    made = [await bench.create(owner, duration_s=0.5) for owner in owners for _ in range(4)]
    generators = [FakeGenerator() for _ in range(3)]

    async def turns(index: int) -> None:
        await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        workers = []
        for number, generator in enumerate(generators, start=1):
            generator.pace = turns
            generator.hold(0)
            # Of all workers together: each has two tracks in hand before the next one comes.
            workers.append(bench.worker(backends={"tiny": generator}, slots={"tiny": 2 * number}))
            group.create_task(workers[-1].run())
            await generator.reached[0].wait()
        for generator in generators:
            generator.gates[0].set()
        for each in made:
            assert (await bench.until(each.id)).state == State.SUCCEEDED
        for worker in workers:
            await worker.stop()
    asked = Counter(request.request_id for generator in generators for request in generator.requests)
    assert len(asked) == len(made)
    assert set(asked.values()) == {1}
