"""How a stream ends: well, by a client that leaves, by an error. Told in ASGI messages and events; nothing sleeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
import structlog
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from api.services import Services
from api.streaming import AudioResponse
from models.errors import EngineDeadError, EngineOverloadedError, GenerationFailedError, ReplicaLostError
from models.types import AudioChunk, GenerationRequest
from tests.api.asgi import TIMEOUT_S, Exchange
from tests.api.fakes import FakeGenerator

BODY = {"prompt": "calm piano", "duration": 2.0, "seed": 1}
FORMATS = ["wav", "flac", "mp3", "pcm"]


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
    assert exchange.status == 200
    assert len(exchange.body) > 1_000
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
    assert (generator.closed, exchange.messages) == (1, [])
    assert outcomes(app) == ["disconnected"]
    assert ("POST", "/api/v1/generate/stream", "499") in counted(app, "tutti_http_requests_total")


@pytest.mark.parametrize("audio_format", FORMATS)
async def test_leaving_mid_stream_closes_the_generator(
    app: FastAPI, generator: FakeGenerator, audio_format: str
) -> None:
    generator.hold(3)
    exchange = Exchange(app, {**BODY, "format": audio_format}).start()
    await generator.reached[3].wait()
    exchange.disconnect()
    await exchange.finish()
    assert generator.closed == 1
    assert not exchange.ended_well()
    assert outcomes(app) == ["disconnected"]
    assert counted(app, "tutti_streams_active") == {}


@pytest.mark.parametrize("broken", ["http.response.start", "http.response.body"])
async def test_a_send_that_fails_closes_the_generator(app: FastAPI, generator: FakeGenerator, broken: str) -> None:
    """The body never starts, or not beyond its first bytes: some servers say so by raising in send."""
    exchange = Exchange(app, BODY, send_fails_on=broken).start()
    with pytest.raises(OSError, match="gone"):
        await exchange.finish()
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


async def test_a_response_that_is_never_sent_opens_nothing(app: FastAPI, generator: FakeGenerator) -> None:
    services: Services = app.state.services
    AudioResponse(
        generator, GenerationRequest("gen_1", "x", 1.0), "tiny", "wav",
        request_id="req_1", metrics=services.metrics, log=services.log,
    )  # fmt: skip
    assert generator.started == 0


async def test_many_leave_at_once_and_none_stays(app: FastAPI, generator: FakeGenerator) -> None:
    """A burst: half of the clients leave before the first chunk, half in the middle of the second."""
    waiting = asyncio.Event()
    arrived = 0

    async def pace(index: int) -> None:
        nonlocal arrived
        if index == 0 and generator.started % 2 == 0:
            return
        arrived += 1
        if arrived == 40:
            waiting.set()
        await asyncio.Event().wait()

    generator.pace = pace
    exchanges = [Exchange(app, BODY).start() for _ in range(40)]
    async with asyncio.timeout(TIMEOUT_S):
        await waiting.wait()
    for exchange in exchanges:
        exchange.disconnect()
    await asyncio.gather(*(exchange.finish() for exchange in exchanges))
    assert (generator.started, generator.closed) == (40, 40)
    assert counted(app, "tutti_streams_active") == {}


@pytest.mark.parametrize("audio_format", FORMATS)
async def test_an_error_after_the_first_byte_cuts_counts_and_logs(
    app: FastAPI, generator: FakeGenerator, log: structlog.testing.LogCapture, audio_format: str
) -> None:
    generator.errors[4] = GenerationFailedError("the row broke")
    exchange = Exchange(app, {**BODY, "format": audio_format}).start()
    with pytest.raises(RuntimeError) as caught:  # Starlette's, around ours
        await exchange.finish()
    assert isinstance(caught.value.__cause__, GenerationFailedError)
    assert exchange.status == 200
    assert not exchange.ended_well()
    assert counted(app, "tutti_stream_errors_after_first_byte_total") == {("GenerationFailedError", "tiny"): 1}
    assert outcomes(app) == ["cut"]
    [entry] = [entry for entry in log.entries if entry["event"] == "stream_cut"]
    assert (entry["log_level"], entry["error"], entry["reason"]) == ("error", "GenerationFailedError", "the row broke")
    assert entry["generation_id"] == exchange.headers["x-generation-id"]


async def test_a_bug_after_the_first_byte_cuts_too(app: FastAPI, generator: FakeGenerator) -> None:
    generator.errors[1] = ZeroDivisionError("a bug")
    exchange = Exchange(app, BODY).start()
    with pytest.raises(ZeroDivisionError):
        await exchange.finish()
    assert not exchange.ended_well()
    assert counted(app, "tutti_stream_errors_after_first_byte_total") == {("ZeroDivisionError", "tiny"): 1}


async def test_audio_without_its_end_marker_is_cut(app: FastAPI, generator: FakeGenerator) -> None:
    generator.end_early = 3
    exchange = Exchange(app, {**BODY, "format": "mp3"}).start()
    with pytest.raises(RuntimeError) as caught:
        await exchange.finish()
    assert isinstance(caught.value.__cause__, ReplicaLostError)
    assert not exchange.ended_well()


async def test_audio_with_a_hole_is_cut(make_app: Callable[..., FastAPI]) -> None:
    class Holed(FakeGenerator):
        async def generate(self, request: GenerationRequest) -> AsyncIterator[AudioChunk]:
            async for chunk in super().generate(request):
                yield replace(chunk, first_sample=chunk.first_sample + (7 if chunk.index == 2 else 0))

    exchange = Exchange(make_app(Holed()), BODY).start()
    with pytest.raises(RuntimeError) as caught:
        await exchange.finish()
    assert "16000 to 16007 are missing" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (EngineOverloadedError("full", 6.2), 503, "system_overloaded", "7"),
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


async def test_audio_that_never_begins_is_a_clean_answer(app: FastAPI, generator: FakeGenerator) -> None:
    generator.end_early = 0
    exchange = Exchange(app, BODY).start()
    await exchange.finish()
    assert (exchange.status, exchange.headers["x-error-code"]) == (503, "replica_lost")


async def test_what_was_sent_is_counted(app: FastAPI, log: structlog.testing.LogCapture) -> None:
    exchange = Exchange(app, BODY).start()
    await exchange.finish()
    assert counted(app, "tutti_audio_sent_seconds_total") == {("tiny",): 2.0}
    assert counted(app, "tutti_time_to_first_audio_seconds_count") == {("tiny",): 1}
    ended: list[Any] = [entry for entry in log.entries if entry["event"] == "stream_ended"]
    assert [(entry["outcome"], entry["samples_sent"]) for entry in ended] == [("completed", 64_000)]
