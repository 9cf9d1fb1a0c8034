"""How a stream ends: well, by a client that leaves, by an error. Told in ASGI messages and events; nothing sleeps.

Between the request and the generator lie SQL, a worker, Valkey and storage: all of them real.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import structlog
from fastapi import FastAPI

from api.generations.view import State
from api.streaming import AudioResponse
from api.streams.live import SlowListenerError
from tests.api.asgi import TIMEOUT_S, Exchange
from tests.api.fakes import FakeGenerator
from tests.api.streams.stage import Stage, eventually, track
from tests.api.streams.streaming import BODY, FORMATS, Stuck, closed, counted, outcomes


@pytest.fixture
async def app(stage: Stage) -> AsyncIterator[FastAPI]:
    async with stage.working():
        yield stage.app


@pytest.mark.parametrize("audio_format", FORMATS)
async def test_bytes_leave_while_the_rest_is_not_made(
    app: FastAPI, generator: FakeGenerator, audio_format: str
) -> None:
    gate = generator.hold(2)
    exchange = Exchange(app, {**BODY, "format": audio_format}).start()
    await generator.reached[2].wait()
    await exchange.until(lambda: len(exchange.body) > 1_000)
    assert exchange.status == 200
    assert not exchange.ended_well()
    gate.set()
    await exchange.finish()
    assert exchange.ended_well()
    assert outcomes(app) == ["completed"]
    assert (generator.finished, generator.closed) == (1, 0)


async def test_nothing_is_sent_before_the_first_chunk(app: FastAPI, generator: FakeGenerator) -> None:
    gate = generator.hold(0)
    exchange = Exchange(app, BODY).start()
    await generator.reached[0].wait()
    assert exchange.messages == []
    gate.set()
    await exchange.finish()
    assert exchange.ended_well()


async def test_leaving_before_the_first_chunk_closes_the_generator(app: FastAPI, generator: FakeGenerator) -> None:
    generator.hold(0)
    exchange = Exchange(app, BODY).start()
    await generator.reached[0].wait()
    exchange.disconnect()
    await exchange.finish()
    await closed(generator)
    assert (generator.closed, exchange.messages) == (1, [])
    assert outcomes(app) == ["cancelled"]
    assert ("POST", "/api/v1/generate/stream", "499") in counted(app, "tutti_http_requests_total")


@pytest.mark.parametrize("audio_format", FORMATS)
async def test_leaving_mid_stream_closes_the_generator(
    app: FastAPI, stage: Stage, generator: FakeGenerator, audio_format: str
) -> None:
    generator.hold(3)
    exchange = Exchange(app, {**BODY, "format": audio_format}).start()
    await exchange.until(lambda: exchange.status == 200)
    exchange.disconnect()
    await exchange.finish()
    await closed(generator)
    assert generator.closed == 1
    assert (await stage.ended(exchange.headers["x-generation-id"])).state == State.CANCELLED
    assert not exchange.ended_well()
    assert outcomes(app) == ["cancelled"]
    assert counted(app, "tutti_active_streams") == {}


@pytest.mark.parametrize("broken", ["http.response.start", "http.response.body"])
async def test_a_send_that_fails_closes_the_generator(app: FastAPI, generator: FakeGenerator, broken: str) -> None:
    """The body never starts, or not beyond its first bytes: some servers say so by raising in send."""
    generator.hold(3)
    exchange = Exchange(app, BODY, send_fails_on=broken).start()
    with pytest.raises(OSError, match="gone"):
        await exchange.finish()
    await closed(generator)
    assert generator.closed == 1


@pytest.mark.parametrize("held", [0, 2])
async def test_a_server_that_gives_up_the_request_closes_the_generator(
    app: FastAPI, generator: FakeGenerator, held: int
) -> None:
    generator.hold(held)
    exchange = Exchange(app, BODY).start()
    await generator.reached[held].wait()
    await exchange.cancel()
    await closed(generator)
    assert generator.closed == 1
    assert counted(app, "tutti_active_streams") == {}


async def test_a_response_that_is_never_sent_opens_nothing(stage: Stage) -> None:
    services = stage.services
    AudioResponse(
        services.feed, await stage.create(), 0, "wav",
        request_id="req_1", telemetry=services.telemetry, log=services.log, patience_s=1.0,
    )  # fmt: skip
    assert (services.feed.watched, services.feed.listeners) == (0, 0)


async def test_many_leave_at_once_and_none_stays(stage: Stage, app: FastAPI, generator: FakeGenerator) -> None:
    """A burst: half of the clients leave before the first chunk, half in the middle of the second."""
    waiting = asyncio.Event()
    arrived = 0

    async def pace(index: int) -> None:
        nonlocal arrived
        if index == 0 and generator.started % 2 == 0:
            return
        arrived += 1
        if arrived == 30:
            waiting.set()
        await asyncio.Event().wait()

    generator.pace = pace
    exchanges = [Exchange(app, BODY).start() for _ in range(30)]
    async with asyncio.timeout(TIMEOUT_S):
        await waiting.wait()
    for exchange in exchanges:
        exchange.disconnect()
    await asyncio.gather(*(exchange.finish() for exchange in exchanges))
    await eventually(lambda: generator.closed == 30)
    assert generator.started == 30
    assert counted(app, "tutti_active_streams") == {}
    assert stage.services.feed.watched == 0


async def test_with_a_key_one_may_leave_and_come_back(app: FastAPI, stage: Stage, generator: FakeGenerator) -> None:
    gate = generator.hold(3)
    headers = {"idempotency-key": "mine"}
    first = Exchange(app, {**BODY, "format": "pcm"}, headers=headers).start()
    await first.until(lambda: first.status == 200)
    first.disconnect()
    await first.finish()
    again = Exchange(app, {**BODY, "format": "pcm"}, headers=headers).start()
    await again.until(lambda: again.status == 200)
    gate.set()
    await again.finish()
    assert again.headers["x-generation-id"] == first.headers["x-generation-id"]
    assert again.body == track(1, 2.0)
    assert again.body.startswith(first.body)
    assert (generator.started, generator.closed) == (1, 0)
    assert (await stage.ended(again.headers["x-generation-id"])).state == State.SUCCEEDED


@pytest.mark.parametrize("audio_format", FORMATS)
async def test_what_is_there_together_is_sent_together(
    app: FastAPI, stage: Stage, generator: FakeGenerator, audio_format: str
) -> None:
    """A message costs every process on its way more than its samples do; its bytes are the same ones."""
    body, headers = {**BODY, "format": audio_format}, {"idempotency-key": "mine"}
    piecewise = Exchange(app, body, headers=headers).start()
    await piecewise.finish()
    await stage.ended(piecewise.headers["x-generation-id"])
    at_once = Exchange(app, body, headers=headers).start()
    await at_once.finish()
    sent = [message for message in at_once.messages if message["type"] == "http.response.body"]
    assert len(sent) <= 2 + 1  # 10 pieces, and the end
    assert at_once.body == piecewise.body
    assert generator.started == 1


async def test_a_client_that_stops_reading_is_cut(make_stage: Callable[..., Awaitable[Stage]]) -> None:
    generator = FakeGenerator()
    generator.hold(4)
    stage = await make_stage(generator, slow_listener_timeout_s=0.2)
    async with stage.working():
        exchange = Stuck(stage.app, BODY).start()
        with pytest.raises(SlowListenerError):
            await exchange.finish()
        await closed(generator)
        assert outcomes(stage.app) == ["cancelled"]
        assert stage.services.feed.listeners == 0


async def test_what_was_sent_is_counted(app: FastAPI, log: structlog.testing.LogCapture) -> None:
    exchange = Exchange(app, BODY).start()
    await exchange.finish()
    assert counted(app, "tutti_audio_delivered_seconds_total") == {("stream", "tiny", "enterprise"): pytest.approx(2.0)}
    assert counted(app, "tutti_time_to_first_audio_seconds_count") == {("tiny", "enterprise"): 1}
    ended: list[Any] = [entry for entry in log.entries if entry["event"] == "stream_ended"]
    assert [(entry["outcome"], entry["samples_sent"]) for entry in ended] == [("completed", 64_000)]
