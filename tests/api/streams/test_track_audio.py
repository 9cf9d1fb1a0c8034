"""The audio of one track: live, afterwards, and that both are the same bytes."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable

import pytest
import soundfile

from api.formats.audio import LIVE_FORMATS
from api.generations.view import GenerationView
from api.streams.live import SlowListenerError
from tests.api.asgi import Exchange
from tests.api.fakes import FakeGenerator
from tests.api.streams.stage import Stage, eventually, track
from tests.api.streams.streaming import Stuck, counted

WAV_HEADER = 44


def path_of(view: GenerationView, query: str = "") -> str:
    return f"/api/v1/generate/{view.id}/audio{query}"


@pytest.mark.parametrize("audio_format", LIVE_FORMATS)
async def test_live_and_finished_are_the_same_bytes(stage: Stage, generator: FakeGenerator, audio_format: str) -> None:
    gate = generator.hold(3)
    view = await stage.create(duration_s=3.1, num_tracks=2)
    query = f"?format={audio_format}&track=1"
    exchange = Exchange(stage.app, path=path_of(view, query), method="GET").start()
    async with stage.working():
        await exchange.until(lambda: len(exchange.body) > 1_000)
        assert not exchange.ended_well()
        gate.set()
        await exchange.finish()
        await stage.ended(view.id)
    await stage.flush()
    async with stage.client() as client:
        finished = await client.get(path_of(view, query))
    assert exchange.body == finished.content
    assert exchange.ended_well()
    names = ("content-type", "x-sample-rate", "x-channels", "x-audio-duration")
    assert [exchange.headers[name] for name in names] == [finished.headers[name] for name in names]
    assert exchange.headers["accept-ranges"] == "none"
    assert finished.headers["accept-ranges"] == "bytes"
    assert exchange.headers["x-seed"] == "2"
    if audio_format in ("wav", "pcm"):
        assert int(exchange.headers["content-length"]) == len(exchange.body)
    else:
        assert "content-length" not in exchange.headers


async def test_the_format_is_the_one_that_was_asked_for(stage: Stage) -> None:
    view = await stage.create(format="flac")
    exchange = Exchange(stage.app, path=path_of(view), method="GET").start()
    async with stage.working():
        await exchange.finish()
    assert exchange.headers["content-type"] == "audio/flac"
    samples, _ = soundfile.read(io.BytesIO(exchange.body), dtype="int16")
    assert samples.tobytes() == track(1, 2.0)


async def test_a_finished_track_comes_in_parts(stage: Stage) -> None:
    view = await stage.create()
    async with stage.working():
        await stage.ended(view.id)
    whole = track(1, 2.0)
    async with stage.client() as client:
        head = await client.head(path_of(view))
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) == WAV_HEADER + len(whole)
        etag = head.headers["etag"]
        part = await client.get(path_of(view), headers={"range": "bytes=100-299", "if-range": etag})
        assert (part.status_code, part.content) == (206, whole[100 - WAV_HEADER : 300 - WAV_HEADER])
        assert part.headers["content-range"] == f"bytes 100-299/{WAV_HEADER + len(whole)}"
        other = await client.get(path_of(view), headers={"range": "bytes=100-299", "if-range": '"other"'})
        assert (other.status_code, len(other.content)) == (200, WAV_HEADER + len(whole))
        beyond = await client.get(path_of(view), headers={"range": "bytes=999999999-"})
        assert (beyond.status_code, beyond.json()["error"]["code"]) == (416, "range_not_satisfiable")
        known = await client.get(path_of(view), headers={"if-none-match": etag})
        assert (known.status_code, known.content) == (304, b"")


@pytest.mark.parametrize("query", ["?format=wav24", "?format=wav32f", "?sample_rate=48000", "?loudness=-14"])
async def test_finer_forms_are_made_of_finished_tracks(stage: Stage, query: str) -> None:
    view = await stage.create()
    async with stage.client() as client:
        early = await client.get(path_of(view, query))
        assert (early.status_code, early.json()["error"]["code"]) == (409, "audio_not_ready")
        assert int(early.headers["retry-after"]) >= 1
        async with stage.working():
            await stage.ended(view.id)
        assert (await client.get(path_of(view, query))).status_code == 200


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?track=2", "track"), ("?track=-1", "track"), ("?track=x", "track"), ("?format=ogg", "format"),
        ("?sample_rate=1", "sample_rate"), ("?loudness=3", "loudness"),
        ("?format=mp3&sample_rate=44100", "sample_rate"),
    ],
)  # fmt: skip
async def test_what_there_is_not_is_refused(stage: Stage, query: str, param: str) -> None:
    view = await stage.create(num_tracks=2)
    async with stage.client() as client:
        answer = await client.get(path_of(view, query))
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)


async def test_head_of_a_track_in_the_making(stage: Stage) -> None:
    view = await stage.create()
    async with stage.client() as client:
        answer = await client.head(path_of(view, "?format=pcm"))
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "audio/pcm;rate=32000;channels=1;encoding=s16le"
    assert answer.headers["accept-ranges"] == "none"


async def test_a_track_that_never_was_says_why(stage: Stage) -> None:
    owner = await stage.local()
    view = await stage.create(owner)
    waiting = Exchange(stage.app, path=path_of(view), method="GET").start()
    await eventually(lambda: stage.services.feed.listeners == 1)
    await stage.services.generations.cancel(owner, view.id)
    await waiting.finish()
    after = Exchange(stage.app, path=path_of(view), method="GET").start()
    await after.finish()
    for exchange in (waiting, after):
        assert (exchange.status, exchange.headers["x-error-code"]) == (409, "generation_cancelled")


async def test_a_listener_that_leaves_stops_nothing(stage: Stage, generator: FakeGenerator) -> None:
    gate = generator.hold(3)
    view = await stage.create()
    async with stage.working():
        exchange = Exchange(stage.app, path=path_of(view), method="GET").start()
        await exchange.until(lambda: exchange.status == 200)
        exchange.disconnect()
        await exchange.finish()
        assert stage.services.feed.listeners == 0
        gate.set()
        assert (await stage.ended(view.id)).state == "succeeded"
    assert counted(stage.app, "tutti_time_to_first_audio_seconds_count") == {}  # it did not ask for the music


async def test_a_listener_that_stops_reading_is_cut_and_stops_nothing(
    make_stage: Callable[..., Awaitable[Stage]], generator: FakeGenerator
) -> None:
    stage = await make_stage(generator, slow_listener_timeout_s=0.2)
    view = await stage.create()
    async with stage.working():
        exchange = Stuck(stage.app, path=path_of(view), method="GET").start()
        with pytest.raises(SlowListenerError):
            await exchange.finish()
        assert (await stage.ended(view.id)).state == "succeeded"


async def test_many_listeners_hear_the_same(stage: Stage) -> None:
    view = await stage.create()
    exchanges = [Exchange(stage.app, path=path_of(view, "?format=pcm"), method="GET").start() for _ in range(50)]
    async with stage.working():
        await asyncio.gather(*(exchange.finish() for exchange in exchanges))
    assert {exchange.body for exchange in exchanges} == {track(1, 2.0)}
