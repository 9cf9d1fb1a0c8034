"""Pieces in a real Valkey: appended once, healed after every kind of loss, never in the way of the music."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from api.cache.bus import Bus
from api.cache.client import Cache
from api.cache.embedded import EmbeddedValkey
from api.streams import keys
from api.streams.pieces import Piece
from api.streams.writer import FeedWriter, TrackWriter
from models.errors import GenerationFailedError, ReplicaLostError
from models.types import AudioChunk, GenerationRequest
from tests.api.fakes import FakeGenerator
from tests.api.streams.stage import PATIENCE_S, eventually, joined, track

SECONDS = 2.0
PIECES = 10


async def chunks(seed: int = 1, **how: Any) -> list[AudioChunk]:
    request = GenerationRequest("one", "a tune", SECONDS, seed=seed)
    return [chunk async for chunk in FakeGenerator(**how).generate(request)]


async def stored(cache: Cache, position: int = 0) -> list[Piece]:
    entries: Any = await cache.redis.xrange(keys.track_key(cache, "gen", position))
    return [keys.unpack(position, entry) for entry in entries]


@asynccontextmanager
async def writing(cache: Cache) -> AsyncIterator[TrackWriter]:
    """A writer that may be left in the middle of its track."""
    bus = Bus(cache)
    try:
        async with FeedWriter(cache, bus).track("gen", 0) as writer:
            yield writer
            raise _LeftError
    except _LeftError:
        await bus.close()


class _LeftError(Exception):
    pass


async def drained(writer: TrackWriter) -> None:
    assert await writer.drain(PATIENCE_S)


async def test_a_track_lies_in_valkey_piece_by_piece(cache: Cache, bus: Bus) -> None:
    writer = FeedWriter(cache, bus)
    async with writer.track("gen", 3) as track_writer:
        for chunk in await chunks():
            track_writer.write(chunk)
    pieces = await stored(cache, 3)
    assert joined(pieces) == track(1, SECONDS)
    assert [piece.index for piece in pieces] == list(range(PIECES))
    assert {piece.header.total_samples for piece in pieces} == {64_000}
    assert pieces == track_writer.pieces
    assert 0 < await cache.redis.ttl(keys.track_key(cache, "gen", 3)) <= keys.LIVE_TTL_S


async def test_a_second_attempt_goes_on_where_the_first_stopped(cache: Cache) -> None:
    all_chunks = await chunks()
    async with writing(cache) as first:
        for chunk in all_chunks[:5]:
            first.write(chunk)
        await drained(first)
    half = await stored(cache)
    async with writing(cache) as second:
        second.write(all_chunks[0])
        await drained(second)
        assert await stored(cache) == half  # what it makes again is there already
        for chunk in all_chunks[1:]:
            second.write(chunk)
        await drained(second)
    assert joined(await stored(cache)) == track(1, SECONDS)


async def test_two_writers_at_once_make_one_track(cache: Cache) -> None:
    """A worker that lost its lease and does not know it yet."""
    async with writing(cache) as stale, writing(cache) as fresh:
        for chunk in await chunks():
            stale.write(chunk)
            fresh.write(chunk)
            await asyncio.gather(drained(stale), drained(fresh))
    assert joined(await stored(cache)) == track(1, SECONDS)


@pytest.mark.parametrize("after", range(1, 8))
async def test_a_flush_at_any_moment_is_healed(cache: Cache, after: int) -> None:
    async with writing(cache) as writer:
        for number, chunk in enumerate(await chunks()):
            if number == after:
                await drained(writer)
                await cache.redis.flushall()
            writer.write(chunk)
            await asyncio.sleep(0)
        await drained(writer)
        await eventually(lambda: whole(cache))
    assert joined(await stored(cache)) == track(1, SECONDS)


async def whole(cache: Cache) -> bool:
    return len(await stored(cache)) == PIECES


async def test_a_flush_is_healed_while_nothing_is_made(cache: Cache) -> None:
    async with writing(cache) as writer:
        for chunk in await chunks():
            writer.write(chunk)
        await drained(writer)
        await cache.redis.flushall()
        await eventually(lambda: whole(cache))


async def test_music_goes_on_without_valkey_and_is_caught_up(own_valkey: EmbeddedValkey) -> None:
    cache = Cache.connect(own_valkey.url)
    all_chunks = await chunks()
    async with writing(cache) as writer:
        for chunk in all_chunks[:3]:
            writer.write(chunk)
        await drained(writer)
        assert own_valkey.pid is not None
        os.kill(own_valkey.pid, signal.SIGKILL)
        for chunk in all_chunks[3:]:
            writer.write(chunk)
        assert writer.complete
        await drained(writer)
        await eventually(lambda: whole(cache))
    assert joined(await stored(cache)) == track(1, SECONDS)
    await cache.close()


async def test_no_valkey_at_all_costs_a_moment_at_the_end() -> None:
    cache = Cache.connect("redis://127.0.0.1:1/0")
    bus = Bus(cache)
    writer = FeedWriter(cache, bus)
    async with asyncio.timeout(PATIENCE_S), writer.track("gen", 0) as track_writer:
        for chunk in await chunks():
            track_writer.write(chunk)
    await writer.state_changed("gen", 2)
    await writer.finish("gen")
    assert joined(track_writer.pieces) == track(1, SECONDS)
    await bus.close()
    await cache.close()


async def test_every_piece_and_every_state_rings(cache: Cache, bus: Bus) -> None:
    writer = FeedWriter(cache, bus)
    async with bus.subscribe(keys.channel("gen")) as subscription:
        assert await subscription.get(PATIENCE_S) is None
        async with writer.track("gen", 1) as track_writer:
            for chunk in await chunks():
                track_writer.write(chunk)
                await drained(track_writer)
        await writer.state_changed("gen", 7)
        rings: list[keys.Ring | None] = []
        while not rings or rings[-1] != keys.Ring(b"state", 7):
            message = await subscription.get(PATIENCE_S)
            assert message is not None
            rings.append(keys.understand(message[1]))
    counts = [ring.value for ring in rings[:-1] if ring is not None and ring.kind == b"pieces" and ring.position == 1]
    assert counts == sorted(set(counts))
    assert (len(counts), counts[-1]) == (len(rings) - 1, PIECES)


@pytest.mark.parametrize("payload", [b"", b"state", b"state x", b"pieces 1", b"pieces 1 -2", b"later 1 2", b"\xff\xfe"])
def test_a_doorbell_of_another_version_is_no_error(payload: bytes) -> None:
    assert keys.understand(payload) is None


async def test_the_feed_goes_some_time_after_the_end(cache: Cache, bus: Bus) -> None:
    writer = FeedWriter(cache, bus)
    async with writer.track("gen", 0) as track_writer:
        for chunk in await chunks():
            track_writer.write(chunk)
    await writer.finish("gen")
    assert 0 < await cache.redis.ttl(keys.track_key(cache, "gen", 0)) <= keys.FINISHED_TTL_S


async def test_a_track_without_its_end_marker_is_an_error(cache: Cache, bus: Bus) -> None:
    async def cut_short() -> None:
        async with FeedWriter(cache, bus).track("gen", 0) as track_writer:
            for chunk in (await chunks())[:3]:
                track_writer.write(chunk)

    with pytest.raises(ReplicaLostError, match="before its end marker"):
        await cut_short()


async def test_an_error_inside_goes_on_and_ends_the_writer(cache: Cache, bus: Bus) -> None:
    with pytest.raises(GenerationFailedError):
        async with FeedWriter(cache, bus).track("gen", 0):
            raise GenerationFailedError("the row broke")
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "feed gen 0"]
