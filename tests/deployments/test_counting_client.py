"""What a worker knows of the requests that it has sent and not heard of, over a real Serve handle in this process."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing
from typing import Any

import pytest
from ray import serve

from deployments.worker import CountingClient
from models.errors import InvalidRequestError
from models.types import GenerationRequest
from tests.deployments.scripted import Replica


@pytest.fixture
def client() -> CountingClient:
    handle: Any = serve.run(serve.deployment(Replica).bind(), name=uuid.uuid4().hex, _local_testing_mode=True)
    return CountingClient(handle)


def request(prompt: str) -> GenerationRequest:
    return GenerationRequest(uuid.uuid4().hex, prompt, 7.0)


async def test_a_request_counts_until_its_first_piece(client: CountingClient) -> None:
    chunks: Any = client.generate(request("play"))
    async with aclosing(chunks):
        first = asyncio.ensure_future(anext(chunks))
        await asyncio.sleep(0)  # it is on its way
        assert client.unanswered_s == 7.0
        await first
        assert client.unanswered_s == 0.0
    assert client.unanswered_s == 0.0


async def test_one_that_is_left_alone_counts_no_more(client: CountingClient) -> None:
    chunks: Any = client.generate(request("play"))
    waiting = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert client.unanswered_s == 0.0


async def test_one_that_fails_counts_no_more(client: CountingClient) -> None:
    with pytest.raises(InvalidRequestError):
        [chunk async for chunk in client.generate(request("fail"))]
    assert client.unanswered_s == 0.0
