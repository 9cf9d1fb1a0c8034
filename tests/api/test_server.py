"""Through a real server and a real socket: what a client on the network sees."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from fastapi import FastAPI

from models.errors import GenerationFailedError
from tests.api.asgi import STREAM, TIMEOUT_S
from tests.api.conftest import Serve
from tests.api.fakes import FakeGenerator

BODY = {"prompt": "calm piano", "duration": 2.0}


@pytest.mark.parametrize("audio_format", ["wav", "flac", "mp3", "pcm"])
async def test_a_stream_that_breaks_is_cut_on_the_wire(
    app: FastAPI, generator: FakeGenerator, serve: Serve, audio_format: str
) -> None:
    gate = generator.hold(3)
    generator.errors[3] = GenerationFailedError("the row broke")
    async with serve(app) as url, httpx2.AsyncClient(trust_env=False, timeout=30.0) as client:
        async with client.stream("POST", url + STREAM, json={**BODY, "format": audio_format}) as answer:
            assert answer.status_code == 200
            gate.set()
            with pytest.raises(httpx2.RemoteProtocolError):
                await answer.aread()
        assert (await client.get(url + "/health")).status_code == 200


async def test_the_first_bytes_arrive_while_the_rest_is_not_made(
    app: FastAPI, generator: FakeGenerator, serve: Serve
) -> None:
    gate = generator.hold(1)
    async with (
        serve(app) as url,
        httpx2.AsyncClient(trust_env=False, timeout=30.0) as client,
        client.stream("POST", url + STREAM, json=BODY) as answer,
    ):
        pieces = answer.aiter_bytes()
        got = b""
        while len(got) < 44 + 6_400 * 2:
            got += await anext(pieces)
        assert not gate.is_set()
        gate.set()
        async for piece in pieces:
            got += piece
        assert len(got) == int(answer.headers["content-length"])


@pytest.mark.parametrize("held", [0, 2])
async def test_a_client_that_hangs_up_frees_the_rows(
    app: FastAPI, generator: FakeGenerator, serve: Serve, held: int
) -> None:
    generator.hold(held)
    async with serve(app) as url:
        asking = asyncio.create_task(_ask(url))
        async with asyncio.timeout(TIMEOUT_S):
            await generator.reached[held].wait()
            asking.cancel()
            await generator.was_closed.wait()
        await asyncio.gather(asking, return_exceptions=True)
    assert (generator.started, generator.closed) == (1, 1)


async def _ask(url: str) -> None:
    async with httpx2.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as client:
        await client.post(url + STREAM, json=BODY)
