"""What listeners of one process hear when the feed, the worker, Valkey or the generation itself goes away."""

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
from api.store.schema import generations
from api.streams import keys
from api.streams.hub import Feed
from api.streams.pieces import Piece
from models.errors import GenerationFailedError, InvalidRequestError
from tests.api.fakes import FakeGenerator
from tests.api.streams.hearing import LONG_S, has, listen
from tests.api.streams.stage import PATIENCE_S, Stage, eventually, joined, track


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
