"""Work that is stopped has ended, even if it does not hear of it the first time; then nothing of it is left."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import pytest

from api import tasks
from api.generations.view import State
from api.storage.audio import AudioLibrary, StoredAudio
from api.store.database import Database
from api.streams.writer import FeedWriter
from models.errors import InvalidRequestError
from tests.api.fakes import FakeGenerator
from tests.api.generations.conftest import PATIENCE_S, QUICK, Bench, eventually
from tests.api.generations.faults import SHORT, UnreliableDatabase, doomed


class Deaf(FakeGenerator):
    """Swallows the first cancellation of every track, as ``asyncio.wait_for`` of Python 3.11 does now and then."""

    async def _before(self, index: int) -> None:
        if index == 1:
            self.reached[1].set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await asyncio.Event().wait()


@pytest.fixture
def deaf(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Deaf:
    monkeypatch.setattr(tasks, "_CANCEL_AGAIN_AFTER_S", 0.02)
    generator = Deaf()
    generator.hold(1)
    bench.generators["tiny"] = generator
    return generator


async def test_a_cancel(bench: Bench, deaf: Deaf) -> None:
    owner = await bench.account()
    made = await bench.create(owner, num_tracks=2)
    async with bench.working():
        await bench.reached(1)
        await bench.service.cancel(owner, made.id)
        assert (await bench.until(made.id)).state == State.CANCELLED
        assert deaf.closed == 2


async def test_a_worker_that_stops(bench: Bench, deaf: Deaf) -> None:
    made = await bench.create(await bench.account(), num_tracks=2)
    async with bench.working(timing=replace(QUICK, drain_s=0.05)):
        await bench.reached(1)
    assert deaf.closed == 2
    assert (await bench.look(made.id)).state == State.QUEUED


async def test_a_lease_that_is_lost(bench: Bench, deaf: Deaf) -> None:
    await bench.create(await bench.account(), num_tracks=2)
    flaky = UnreliableDatabase(bench.db)
    async with doomed(bench.worker(db=cast(Database, flaky), timing=SHORT)):
        await bench.reached(1)
        flaky.away = True
        await eventually(lambda: deaf.closed == 2)


async def test_a_worker_that_is_abandoned(bench: Bench, deaf: Deaf) -> None:
    made = await bench.create(await bench.account(), num_tracks=2)
    async with doomed(bench.worker()):
        await bench.reached(1)
    assert deaf.closed == 2
    assert (await bench.look(made.id)).state == State.RUNNING


async def test_one_track_that_fails_ends_the_others(bench: Bench, deaf: Deaf, monkeypatch: pytest.MonkeyPatch) -> None:
    before = deaf._before

    async def second_fails(index: int) -> None:
        if index == 1 and deaf.started == 2:
            raise InvalidRequestError("not this one", "seed")
        await before(index)

    monkeypatch.setattr(deaf, "_before", second_fails)
    made = await bench.create(await bench.account(), num_tracks=2)
    async with bench.working():
        assert (await bench.until(made.id)).state == State.FAILED
        assert deaf.closed == 1


# ------------------------------------------------------------------------------------- nothing is left
class SlowToTell(FeedWriter):
    """Tells an end only when it may."""

    gate: asyncio.Event
    telling: asyncio.Event

    async def finish(self, generation_id: str) -> None:
        self.telling.set()
        await self.gate.wait()
        await super().finish(generation_id)


async def test_a_worker_has_told_everything_when_it_ends(bench: Bench) -> None:
    feed = SlowToTell(bench.cache, bench.bus)
    feed.gate, feed.telling = asyncio.Event(), asyncio.Event()
    await bench.create(await bench.account())
    worker = bench.worker(feed=feed)
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(PATIENCE_S):
        await feed.telling.wait()
        assert worker.running == 0  # its place is free already
        await worker.stop()
        done, _ = await asyncio.wait({running}, timeout=0.3)
        assert not done
        feed.gate.set()
        await running


async def test_a_bug_on_the_way_is_logged_and_costs_an_attempt(bench: Bench, no_backoff: None) -> None:
    class Broken(FeedWriter):
        broke = False

        async def state_changed(self, generation_id: str, version: int) -> None:
            if not self.broke:
                self.broke = True
                raise ZeroDivisionError("a bug")
            await super().state_changed(generation_id, version)

    made = await bench.create(await bench.account())
    async with bench.working(feed=Broken(bench.cache, bench.bus), timing=SHORT):
        view = await bench.until(made.id)
    assert (view.state, view.attempt) == (State.SUCCEEDED, 2)
    (logged,) = [entry for entry in bench.entries if entry["event"] == "attempt_broke"]
    assert (logged["log_level"], logged["generation_id"]) == ("error", made.id)


class OneStored(AudioLibrary):
    """Stores one track, and never comes back with the second."""

    count = 0
    second: asyncio.Event

    async def store(self, *args: Any, **values: Any) -> StoredAudio:
        self.count += 1
        if self.count == 2:
            self.second.set()
            await asyncio.Event().wait()
        return await super().store(*args, **values)


async def test_what_is_thrown_away_is_nobody_elses(bench: Bench) -> None:
    """Given back, it is made again in the same attempt; what the first one stored is removed at any time later."""
    library = OneStored(bench.objects, bench.audio._vault)
    library.second = asyncio.Event()
    made = await bench.create(await bench.account(), num_tracks=2)
    async with bench.working(audio=library, timing=replace(QUICK, drain_s=0.05)):
        async with asyncio.timeout(PATIENCE_S):
            await library.second.wait()
    thrown_away = {each["object_key"] for each in await bench.outbox("object.delete")}
    assert len(thrown_away) == 1
    async with bench.working():
        view = await bench.until(made.id)
    assert (view.state, view.attempt) == (State.SUCCEEDED, 1)
    assert not thrown_away & {track.object_key for track in view.tracks}
    assert len({request.request_id for request in bench.tiny.requests}) == 4  # engines refuse one that is in use
