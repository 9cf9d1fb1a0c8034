"""How a stream ends: well, by a client that leaves, by an error. Told in ASGI messages and events; nothing sleeps.

Between the request and the generator lie SQL, a worker, Valkey and storage: all of them real.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import structlog
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message

from api.errors import ApiError
from api.generations import retries
from api.generations.view import State
from api.services import Services
from api.streaming import AudioResponse
from api.streams.live import SlowListenerError
from models.errors import EngineDeadError, EngineOverloadedError, GenerationFailedError, ReplicaLostError
from models.types import AudioChunk, GenerationRequest
from tests.api.asgi import TIMEOUT_S, Exchange
from tests.api.fakes import FakeGenerator
from tests.api.streams.stage import Stage, eventually, track

BODY = {"prompt": "calm piano", "duration": 2.0, "seed": 1}
FORMATS = ["wav", "flac", "mp3", "opus", "pcm"]


@pytest.fixture
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr(retries, "_BACKOFF_S", (0.0, 0.0, 0.0))


@pytest.fixture
async def app(stage: Stage) -> AsyncIterator[FastAPI]:
    async with stage.working():
        yield stage.app


def counted(app: FastAPI, name: str) -> dict[tuple[str, ...], float]:
    """Samples of one metric that are above 0: label values in order of their names → value."""
    services: Services = app.state.services
    families = text_string_to_metric_families(services.metrics.render().decode())
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return {tuple(s.labels[key] for key in sorted(s.labels)): s.value for s in samples if s.value > 0}


def outcomes(app: FastAPI) -> list[str]:
    return [outcome for _, _, outcome in counted(app, "tutti_streams_total")]


async def closed(generator: FakeGenerator) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        await generator.was_closed.wait()


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
    assert outcomes(app) == ["disconnected"]
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
    assert outcomes(app) == ["disconnected"]
    assert counted(app, "tutti_streams_active") == {}


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
    assert counted(app, "tutti_streams_active") == {}


async def test_a_response_that_is_never_sent_opens_nothing(stage: Stage) -> None:
    services = stage.services
    AudioResponse(
        services.feed, await stage.create(), 0, "wav",
        request_id="req_1", metrics=services.metrics, log=services.log, patience_s=1.0,
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
    assert counted(app, "tutti_streams_active") == {}
    assert stage.services.feed.watched == 0


@pytest.mark.usefixtures("_no_backoff")
@pytest.mark.parametrize("audio_format", FORMATS)
async def test_an_error_after_the_first_byte_cuts_counts_and_logs(
    app: FastAPI, generator: FakeGenerator, log: structlog.testing.LogCapture, audio_format: str
) -> None:
    generator.errors[4] = GenerationFailedError("the row broke")
    gate = generator.hold(4)
    exchange = Exchange(app, {**BODY, "format": audio_format}).start()
    await cut(exchange, gate, "generation_failed")
    assert counted(app, "tutti_stream_errors_after_first_byte_total") == {("generation_failed", "tiny"): 1}
    assert outcomes(app) == ["cut"]
    [entry] = [entry for entry in log.entries if entry["event"] == "stream_cut"]
    assert (entry["log_level"], entry["error"]) == ("error", "generation_failed")
    assert entry["generation_id"] == exchange.headers["x-generation-id"]


async def cut(exchange: Exchange, gate: asyncio.Event, code: str) -> None:
    """What waits behind the gate comes after the first byte: the stream ends without its end, for this reason."""
    await exchange.until(lambda: exchange.status == 200)
    gate.set()
    with pytest.raises(RuntimeError) as caught:  # Starlette's, around ours
        await exchange.finish()
    assert isinstance(caught.value.__cause__, ApiError)
    assert caught.value.__cause__.code == code
    assert not exchange.ended_well()


@pytest.mark.usefixtures("_no_backoff")
async def test_a_bug_after_the_first_byte_cuts_too(app: FastAPI, generator: FakeGenerator) -> None:
    generator.errors[1] = ZeroDivisionError("a bug")
    await cut(Exchange(app, BODY).start(), generator.hold(1), "internal_error")
    assert counted(app, "tutti_stream_errors_after_first_byte_total") == {("internal_error", "tiny"): 1}


@pytest.mark.usefixtures("_no_backoff")
async def test_audio_without_its_end_marker_is_cut(app: FastAPI, generator: FakeGenerator) -> None:
    generator.end_early = 3
    await cut(Exchange(app, {**BODY, "format": "mp3"}).start(), generator.hold(3), "replica_lost")
    assert generator.started == 1 + retries.MAX_RETRIES


@pytest.mark.usefixtures("_no_backoff")
async def test_audio_with_a_hole_is_cut(make_stage: Callable[..., Awaitable[Stage]]) -> None:
    class Holed(FakeGenerator):
        async def generate(self, request: GenerationRequest) -> AsyncIterator[AudioChunk]:
            async for chunk in super().generate(request):
                yield replace(chunk, first_sample=chunk.first_sample + (7 if chunk.index == 2 else 0))

    holed = Holed()
    stage = await make_stage(holed)
    async with stage.working():
        await cut(Exchange(stage.app, BODY).start(), holed.hold(2), "replica_lost")


@pytest.mark.usefixtures("_no_backoff")
@pytest.mark.parametrize("lost_at", range(8))
async def test_a_replica_that_dies_on_the_way_is_not_noticed(
    app: FastAPI, generator: FakeGenerator, lost_at: int
) -> None:
    """Whenever it happens, before the first byte or before the last, the stream goes on at the same sample."""

    async def pace(index: int) -> None:
        if generator.started == 1 and index == lost_at:
            raise ReplicaLostError("gone")

    generator.pace = pace
    exchange = Exchange(app, {**BODY, "format": "pcm"}).start()
    await exchange.finish()
    assert exchange.ended_well()
    assert exchange.body == track(1, 2.0)
    assert generator.started == 2
    assert outcomes(app) == ["completed"]


@pytest.mark.usefixtures("_no_backoff")
@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (EngineDeadError("gone"), 503, "model_unavailable", "2"),
        (ReplicaLostError("gone"), 503, "replica_lost", "2"),
        (GenerationFailedError("tensor [3, 4] at 0x7f"), 500, "generation_failed", None),
        (ZeroDivisionError("secret"), 500, "internal_error", None),
    ],
)
async def test_an_error_before_the_first_byte_is_a_clean_answer(
    app: FastAPI, generator: FakeGenerator, error: Exception, status: int, code: str, retry_after: str | None
) -> None:
    generator.errors[0] = error
    exchange = Exchange(app, BODY).start()
    await exchange.finish()
    assert exchange.ended_well()
    assert (exchange.status, exchange.headers["x-error-code"]) == (status, code)
    assert exchange.headers.get("retry-after") == retry_after
    assert b"tensor" not in exchange.body
    assert b"secret" not in exchange.body
    assert outcomes(app) == ["refused"]


async def test_an_engine_that_is_full_is_waited_for(app: FastAPI, generator: FakeGenerator) -> None:
    async def pace(index: int) -> None:
        if generator.started == 1:
            raise EngineOverloadedError("full", 0.1)

    generator.pace = pace
    exchange = Exchange(app, BODY).start()
    await exchange.finish()
    assert (exchange.status, generator.started) == (200, 2)


async def test_what_waits_too_long_is_refused(make_stage: Callable[..., Awaitable[Stage]]) -> None:
    """No worker takes it; whichever does the housekeeping says that it has expired."""
    stage = await make_stage(FakeGenerator(), stream_queue_expiry_s=1.0)
    stage.slots = 0
    async with stage.working():
        exchange = Exchange(stage.app, BODY).start()
        await exchange.finish()
    assert (exchange.status, exchange.headers["x-error-code"]) == (503, "generation_expired")


@pytest.mark.usefixtures("_no_backoff")
async def test_audio_that_never_begins_is_a_clean_answer(app: FastAPI, generator: FakeGenerator) -> None:
    generator.end_early = 0
    exchange = Exchange(app, BODY).start()
    await exchange.finish()
    assert (exchange.status, exchange.headers["x-error-code"]) == (503, "replica_lost")


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


class Stuck(Exchange):
    """A client that takes the first bytes and no more."""

    async def _send(self, message: Message) -> None:
        if self.body:
            await asyncio.Event().wait()
        await super()._send(message)


async def test_a_client_that_stops_reading_is_cut(make_stage: Callable[..., Awaitable[Stage]]) -> None:
    generator = FakeGenerator()
    generator.hold(4)
    stage = await make_stage(generator, slow_listener_timeout_s=0.2)
    async with stage.working():
        exchange = Stuck(stage.app, BODY).start()
        with pytest.raises(SlowListenerError):
            await exchange.finish()
        await closed(generator)
        assert outcomes(stage.app) == ["too_slow"]
        assert stage.services.feed.listeners == 0


async def test_what_was_sent_is_counted(app: FastAPI, log: structlog.testing.LogCapture) -> None:
    exchange = Exchange(app, BODY).start()
    await exchange.finish()
    assert counted(app, "tutti_audio_sent_seconds_total") == {("tiny",): pytest.approx(2.0)}
    assert counted(app, "tutti_time_to_first_audio_seconds_count") == {("tiny",): 1}
    ended: list[Any] = [entry for entry in log.entries if entry["event"] == "stream_ended"]
    assert [(entry["outcome"], entry["samples_sent"]) for entry in ended] == [("completed", 64_000)]
