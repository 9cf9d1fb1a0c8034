"""Listeners of one process: what they hear, wherever it is, whenever they come, whatever is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest
from sqlalchemy import delete

from api.cache.bus import Bus
from api.cache.client import Cache
from api.cache.embedded import EmbeddedValkey
from api.errors import ApiError
from api.generations.view import GenerationView
from api.services import Services
from api.store.schema import generations
from api.streams import keys
from api.streams.hub import Feed
from api.streams.pieces import Piece
from api.streams.window import WINDOW_PIECES
from models.errors import GenerationFailedError, InvalidRequestError
from tests.api.fakes import FakeGenerator
from tests.api.streams.stage import PATIENCE_S, Stage, eventually, joined, track

LONG_S = 15.0  # more than a window


async def listen(feed: Feed, view: GenerationView, position: int = 0, first: int = 0) -> list[Piece]:
    async with asyncio.timeout(PATIENCE_S), aclosing(feed.pieces(view, position, first)) as pieces:
        return [piece async for piece in pieces]


async def has(stage: Stage, view: GenerationView, count: int, position: int = 0) -> None:
    """Until the feed has so many pieces."""

    async def enough() -> bool:
        return await stage.services.cache.redis.xlen(keys.track_key(stage.services.cache, view.id, position)) >= count

    await eventually(enough)


async def test_a_track_is_heard_while_it_is_made(stage: Stage, generator: FakeGenerator) -> None:
    gate = generator.hold(4)
    view = await stage.create()
    async with stage.working(), aclosing(stage.services.feed.pieces(view, 0)) as pieces:
        first = [await anext(pieces) for _ in range(5)]  # 4 chunks of 0.25 s
        assert not gate.is_set()
        gate.set()
        rest = [piece async for piece in pieces]
    assert joined(first + rest) == track(1, 2.0)


@pytest.mark.parametrize("first", [0, 1, 7, 9, 10, 11])
async def test_one_begins_anywhere(stage: Stage, first: int) -> None:
    view = await stage.create()
    async with stage.working():
        live = await listen(stage.services.feed, view, first=first)
        ended = await stage.ended(view.id)
    assert [piece.index for piece in live] == list(range(first, 10))
    assert await listen(stage.services.feed, ended, first=first) == live
    await stage.flush()
    assert await listen(stage.services.feed, ended, first=first) == live  # from the store


async def test_every_track_is_its_own(stage: Stage) -> None:
    view = await stage.create(num_tracks=3)
    async with stage.working():
        heard = await asyncio.gather(*(listen(stage.services.feed, view, position) for position in range(3)))
    assert [joined(pieces) for pieces in heard] == [track(seed, 2.0) for seed in (1, 2, 3)]


async def test_who_comes_late_reads_what_has_left_the_window(stage: Stage, generator: FakeGenerator) -> None:
    gate = generator.hold(56)
    view = await stage.create(duration_s=LONG_S)
    async with stage.working():
        await has(stage, view, 70)
        async with aclosing(stage.services.feed.pieces(view, 0)) as pieces:
            early = [await anext(pieces) for _ in range(70)]
            gate.set()
            rest = [piece async for piece in pieces]
    assert 70 - WINDOW_PIECES > 0
    assert joined(early + rest) == track(1, LONG_S)


async def test_a_flush_in_the_middle_loses_nothing(stage: Stage, generator: FakeGenerator) -> None:
    gate = generator.hold(6)
    view = await stage.create()
    async with stage.working():
        watching = asyncio.create_task(listen(stage.services.feed, view))
        await has(stage, view, 7)
        await stage.flush()
        late = asyncio.create_task(listen(stage.services.feed, view))
        gate.set()
        assert joined(await watching) == joined(await late) == track(1, 2.0)


async def test_who_is_behind_when_the_feed_is_lost_is_told_once_it_is_healed(
    stage: Stage, generator: FakeGenerator
) -> None:
    """No new piece rings for it: the window is complete, but the listener is at the beginning."""
    gate = generator.hold(59)
    view = await stage.create(duration_s=LONG_S)
    async with stage.working(), stage.services.feed.watch(view) as watch:
        await has(stage, view, 70)
        await watch.read(0, 60)
        await stage.flush()
        listening = asyncio.create_task(listen(stage.services.feed, view))
        await has(stage, view, 70)  # the writer has healed it
        async with asyncio.timeout(PATIENCE_S), aclosing(stage.services.feed.pieces(view, 0)) as pieces:
            await anext(pieces)
        gate.set()
        assert joined(await listening) == track(1, LONG_S)


async def test_gateways_hear_the_same(stage: Stage, generator: FakeGenerator) -> None:
    gate = generator.hold(4)
    other: Services = (await stage.gateway()).state.services
    view = await stage.create()
    async with stage.working():
        here, there = (asyncio.create_task(listen(feed, view)) for feed in (stage.services.feed, other.feed))
        await generator_reached(generator, 4)
        gate.set()
        assert await here == await there


async def generator_reached(generator: FakeGenerator, index: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await generator.reached[index].wait()


async def test_a_worker_that_dies_is_not_heard(stage: Stage, generator: FakeGenerator) -> None:
    """The lease runs out, another worker makes the same pieces, and the listener goes on at the same sample."""
    generator.hold(5)
    view = await stage.create()
    listening = asyncio.create_task(listen(stage.services.feed, view))
    async with stage.dying():
        await has(stage, view, 6)
    assert not listening.done()
    generator.gates.clear()
    async with stage.working():
        assert joined(await listening) == track(1, 2.0)
    assert generator.started == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [(InvalidRequestError("no such thing", "prompt"), "invalid_parameter"), (None, "generation_cancelled")],
)
async def test_what_ends_early_says_why(
    stage: Stage, generator: FakeGenerator, error: Exception | None, code: str
) -> None:
    if error is not None:
        generator.errors[4] = error
    gate = generator.hold(4)
    owner = await stage.local()
    view = await stage.create(owner)
    heard: list[Piece] = []
    async with stage.working(), aclosing(stage.services.feed.pieces(view, 0)) as pieces:
        heard.extend([await anext(pieces) for _ in range(5)])
        if error is None:
            await stage.services.generations.cancel(owner, view.id)
        else:
            gate.set()
        with pytest.raises(ApiError) as caught:
            await anext(pieces)
    assert (caught.value.code, caught.value.details["generation_id"]) == (code, view.id)
    assert joined(heard) == track(1, 1.0)


async def test_a_failure_is_told_in_its_own_words(stage: Stage, generator: FakeGenerator) -> None:
    generator.errors[0] = GenerationFailedError("tensor [3, 4]")
    view = await stage.create()
    async with stage.working():
        with pytest.raises(ApiError) as caught:
            await listen(stage.services.feed, view)
    assert caught.value.code == "generation_failed"
    assert "tensor" not in caught.value.message


async def test_a_removed_generation_ends_its_listeners(stage: Stage) -> None:
    view = await stage.create()
    listening = asyncio.create_task(listen(stage.services.feed, view))
    async with stage.services.db.begin() as conn:
        await conn.execute(delete(generations).where(generations.c.id == view.id))
    with pytest.raises(ApiError) as caught:
        await listening
    assert caught.value.code == "generation_not_found"


async def test_a_listener_is_not_left_alone_by_a_bug(stage: Stage) -> None:
    """Whoever follows the generation for all breaks on what nobody can read; then nobody waits for it."""
    view = await stage.create()
    listening = asyncio.create_task(listen(stage.services.feed, view))
    await eventually(lambda: stage.services.feed.listeners == 1)
    await has(stage, view, 0)
    await stage.services.cache.redis.xadd(keys.track_key(stage.services.cache, view.id, 0), {"not": "ours"}, id="1-0")
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(KeyError):
            await listening
    assert (stage.services.feed.listeners, stage.services.feed.watched) == (0, 0)


async def test_without_doorbells_listeners_find_out_by_themselves(stage: Stage) -> None:
    deaf = Bus(Cache.connect("redis://127.0.0.1:1/0"))
    services = stage.services
    feed = Feed(services.cache, deaf, services.generations, services.audio)
    view = await stage.create()
    async with stage.working():
        assert joined(await listen(feed, view)) == track(1, 2.0)
    await deaf.close()


async def test_without_valkey_the_track_is_heard_when_it_is_stored(
    make_stage: Callable[..., Awaitable[Stage]], generator: FakeGenerator
) -> None:
    stage = await make_stage(generator, redis_url="redis://127.0.0.1:1/0")
    view = await stage.create()
    async with stage.working():
        assert joined(await listen(stage.services.feed, view)) == track(1, 2.0)


async def test_valkey_killed_in_the_middle_is_not_heard(
    make_stage: Callable[..., Awaitable[Stage]], own_valkey: EmbeddedValkey, generator: FakeGenerator
) -> None:
    stage = await make_stage(generator, redis_url=own_valkey.url)
    gate = generator.hold(5)
    view = await stage.create()
    async with stage.working():
        listening = asyncio.create_task(listen(stage.services.feed, view))
        await has(stage, view, 6)
        assert own_valkey.pid is not None
        os.kill(own_valkey.pid, signal.SIGKILL)
        gate.set()
        assert joined(await listening) == track(1, 2.0)


async def test_many_listeners_cost_what_one_costs(stage: Stage, generator: FakeGenerator) -> None:
    gates = [generator.hold(index) for index in range(8)]
    services = stage.services
    view = await stage.create()
    async with stage.working():
        listening = [asyncio.create_task(listen(services.feed, view)) for _ in range(200)]
        await eventually(lambda: services.feed.listeners == 200)
        assert services.feed.watched == 1
        before = await xranges(services.cache)
        for index, gate in enumerate(gates):
            await generator_reached(generator, index)
            gate.set()
        heard = await asyncio.gather(*listening)
        assert await xranges(services.cache) - before < 40
    assert {joined(pieces) for pieces in heard} == {track(1, 2.0)}
    assert len({id(piece.pcm) for pieces in heard for piece in pieces}) == 10  # shared, not copied
    assert (services.feed.listeners, services.feed.watched) == (0, 0)


async def xranges(cache: Cache) -> int:
    stats = await cache.redis.info("commandstats")
    return int(stats.get("cmdstat_xrange", {}).get("calls", 0))


async def test_a_listener_that_does_not_listen_holds_nothing(stage: Stage) -> None:
    """It has taken one piece and stopped; the window moves on without it, and it can still go on."""
    view = await stage.create(duration_s=60.0)
    feed = stage.services.feed
    async with stage.working(), aclosing(feed.pieces(view, 0)) as pieces:
        first = await anext(pieces)
        await stage.ended(view.id)
        async with feed.watch(view) as watch:
            assert len(watch._windows[0].read(watch._windows[0].start, 1_000)) <= WINDOW_PIECES
        rest = [piece async for piece in pieces]
    assert joined([first, *rest]) == track(1, 60.0)


async def test_leaving_closes_the_watch(stage: Stage) -> None:
    feed = stage.services.feed
    view = await stage.create()
    listening = [asyncio.create_task(listen(feed, view)) for _ in range(3)]
    await eventually(lambda: feed.listeners == 3)
    for task in listening:
        task.cancel()
    await asyncio.gather(*listening, return_exceptions=True)
    assert (feed.listeners, feed.watched) == (0, 0)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("watch ")]
