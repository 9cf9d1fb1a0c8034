"""Errors of a stream: retried unseen where they may be, a clean answer before the first byte, a cut after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
import structlog
from fastapi import FastAPI

from api.errors import ApiError
from api.generations import retries
from models.errors import EngineDeadError, EngineOverloadedError, GenerationFailedError, ReplicaLostError
from models.types import AudioChunk, GenerationRequest
from tests.api.asgi import Exchange
from tests.api.fakes import FakeGenerator
from tests.api.streams.stage import Stage, track
from tests.api.streams.streaming import BODY, FORMATS, outcomes


@pytest.fixture
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr(retries, "_BACKOFF_S", (0.0, 0.0, 0.0))


@pytest.fixture
async def app(stage: Stage) -> AsyncIterator[FastAPI]:
    async with stage.working():
        yield stage.app


@pytest.mark.usefixtures("_no_backoff")
@pytest.mark.parametrize("audio_format", FORMATS)
async def test_an_error_after_the_first_byte_cuts_counts_and_logs(
    app: FastAPI, generator: FakeGenerator, log: structlog.testing.LogCapture, audio_format: str
) -> None:
    generator.errors[4] = GenerationFailedError("the row broke")
    gate = generator.hold(4)
    exchange = Exchange(app, {**BODY, "format": audio_format}).start()
    await cut(exchange, gate, "generation_failed")
    assert outcomes(app) == ["failed"]
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
    assert outcomes(app) == ["failed"]


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
    assert outcomes(app) == ["failed"]


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
