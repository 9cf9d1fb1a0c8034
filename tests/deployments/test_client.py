"""The client over a real Serve handle (Serve's in-process mode): errors, the end marker, cancelling."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator
from typing import Any, cast

import grpc  # type: ignore[import-untyped]  # comes with ray[serve]
import pytest
from ray import serve
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.client import DEFAULT_RETRY_AFTER_S, GeneratorClient, translate
from models.errors import (
    EngineDeadError,
    EngineOverloadedError,
    GenerationFailedError,
    InvalidRequestError,
    ReplicaLostError,
    TuttiError,
)
from models.types import AudioChunk, GenerationRequest
from tests.deployments.scripted import CLOSED, TOTAL, Replica, piece

WAIT_S = 30.0


@pytest.fixture
def client() -> GeneratorClient:
    CLOSED.clear()
    handle: Any = serve.run(serve.deployment(Replica).bind(), name=uuid.uuid4().hex, _local_testing_mode=True)
    return GeneratorClient(handle)


def request(prompt: str) -> GenerationRequest:
    return GenerationRequest(uuid.uuid4().hex, prompt, 1.0)


async def collect(client: GeneratorClient, prompt: str) -> list[AudioChunk]:
    return [chunk async for chunk in client.generate(request(prompt))]


async def test_a_stream_arrives_whole(client: GeneratorClient) -> None:
    assert await collect(client, "play") == [piece(index) for index in range(TOTAL)]


async def test_the_engines_own_error_arrives_as_itself(client: GeneratorClient) -> None:
    with pytest.raises(InvalidRequestError, match="no such key") as caught:
        await collect(client, "fail")
    assert caught.value.param == "key"


async def test_a_bug_arrives_as_a_failed_generation(client: GeneratorClient) -> None:
    with pytest.raises(GenerationFailedError, match="failed unexpectedly"):
        await collect(client, "bug")


async def test_a_stream_without_its_end_marker_is_a_lost_replica(client: GeneratorClient) -> None:
    with pytest.raises(ReplicaLostError, match="before its last piece"):
        await collect(client, "cut")


async def test_closing_the_iterator_stops_the_replica(client: GeneratorClient) -> None:
    chunks = cast(AsyncGenerator[AudioChunk, None], client.generate(request("hang")))
    assert (await anext(chunks)).index == 0
    await chunks.aclose()
    assert await asyncio.to_thread(CLOSED.wait, WAIT_S)


async def test_cancelling_the_listener_stops_the_replica(client: GeneratorClient) -> None:
    first = asyncio.Event()

    async def listen() -> None:
        async for _ in client.generate(request("hang")):
            first.set()

    listener = asyncio.create_task(listen())
    await first.wait()
    listener.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listener
    assert await asyncio.to_thread(CLOSED.wait, WAIT_S)


def wrapped(cause: Exception) -> Exception:
    """The error as an actor call raises it: a class made of RayTaskError and the cause's own class."""
    error: Exception = RayTaskError("generate", "a stack", cause).as_instanceof_cause()
    return error


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ActorDiedError(), ReplicaLostError),
        (ActorUnavailableError("gone", None), ReplicaLostError),
        (DeploymentUnavailableError(None), ReplicaLostError),
        (grpc.RpcError(), ReplicaLostError),
        (wrapped(EngineDeadError("dead")), EngineDeadError),
        (wrapped(InvalidRequestError("bad", param="seed")), InvalidRequestError),
        (wrapped(ZeroDivisionError()), GenerationFailedError),
        (EngineOverloadedError("full", 3.0), EngineOverloadedError),
        (ZeroDivisionError(), GenerationFailedError),
    ],
)
def test_what_a_handle_raises_becomes_our_own_error(raised: Exception, expected: type[TuttiError]) -> None:
    translated = translate(raised, "musicgen-tiny")
    assert isinstance(translated, expected)
    assert not isinstance(translated, RayTaskError)


@pytest.mark.parametrize(("given", "told"), [(7.0, 7.0), (None, DEFAULT_RETRY_AFTER_S)])
def test_a_full_queue_says_when_to_come_back(given: float | None, told: float) -> None:
    translated = translate(BackPressureError(32, 32, retry_after_s=given), "musicgen-tiny")
    assert isinstance(translated, EngineOverloadedError)
    assert translated.retry_after_s == told
