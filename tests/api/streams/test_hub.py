"""Listeners of one process: what they hear, wherever it is and whenever they come, and what they cost."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from api.cache.client import Cache
from api.services import Services
from api.streams.window import WINDOW_PIECES
from tests.api.fakes import FakeGenerator
from tests.api.streams.hearing import LONG_S, generator_reached, has, listen
from tests.api.streams.stage import Stage, eventually, joined, track


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


async def test_gateways_hear_the_same(stage: Stage, generator: FakeGenerator) -> None:
    gate = generator.hold(4)
    other: Services = (await stage.gateway()).state.services
    view = await stage.create()
    async with stage.working():
        here, there = (asyncio.create_task(listen(feed, view)) for feed in (stage.services.feed, other.feed))
        await generator_reached(generator, 4)
        gate.set()
        assert await here == await there


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
