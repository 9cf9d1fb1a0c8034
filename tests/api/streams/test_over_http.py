"""Streams over real servers and sockets: what a client on the network sees of gateways that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx2
import pytest

from tests.api.conftest import Serve
from tests.api.fakes import FakeGenerator
from tests.api.streams.line import deaf_to
from tests.api.streams.stage import PATIENCE_S, Stage, Told, audio_of, eventually, parse_sse, track


async def until(client: httpx2.AsyncClient, url: str, last: str | None, enough: Callable[[list[Told]], bool]) -> bytes:
    """What an event stream says until it is enough, or to its end; then the client hangs up."""
    headers = {} if last is None else {"last-event-id": last}
    got = b""
    async with asyncio.timeout(PATIENCE_S), client.stream("GET", url, headers=headers) as answer:
        assert answer.status_code == 200
        async for data in answer.aiter_bytes():
            got += data
            if enough(parse_sse(got)):
                break
    return got


async def test_a_listener_moves_from_gateway_to_gateway(stage: Stage, serve: Serve, generator: FakeGenerator) -> None:
    """Each server ends in the middle; the cache is flushed besides. Nothing is lost and nothing comes twice."""
    gates = [generator.hold(index) for index in (2, 4, 6)]
    view = await stage.create()
    heard: list[Told] = []
    async with stage.working(), httpx2.AsyncClient(trust_env=False, timeout=PATIENCE_S) as client:
        for step in range(4):
            app = stage.app if step == 0 else await stage.gateway()
            async with serve(app) as url:
                address = f"{url}/api/v1/generate/{view.id}/events?audio=true"
                last = heard[-1].id if heard else None
                due = (2, 5, 7, 10)[step]  # pieces that are whole when the generator stands before its next gate

                def enough(events: list[Told], due: int = due) -> bool:
                    return any(e.name == "done" or (e.name == "audio" and e.data["index"] == due - 1) for e in events)

                events = parse_sse(await until(client, address, last, enough))
            assert events[0].name == "snapshot"
            heard += events[1:]
            if step < 3:
                await stage.flush()
                gates[step].set()
        heard += parse_sse(await rest(stage, serve, client, view.id, heard[-1]))
    assert audio_of(heard) == track(1, 2.0)
    assert heard[-1].name == "done"
    ids = [tuple(map(int, event.id.split("."))) for event in heard if event.id]
    assert ids == sorted(set(ids))


async def rest(stage: Stage, serve: Serve, client: httpx2.AsyncClient, generation_id: str, last: Told) -> bytes:
    """What follows the last event, if it was not the end."""
    if last.name == "done":
        return b""
    async with serve(stage.app) as url:
        address = f"{url}/api/v1/generate/{generation_id}/events?audio=true"
        return await until(client, address, last.id, lambda _: False)


@pytest.mark.parametrize("what", ["events?audio=true", "audio?format=pcm"])
async def test_a_client_that_hangs_up_is_gone(stage: Stage, serve: Serve, generator: FakeGenerator, what: str) -> None:
    generator.hold(4)
    view = await stage.create()
    async with (
        stage.working(),
        serve(stage.app) as url,
        httpx2.AsyncClient(trust_env=False, timeout=PATIENCE_S) as client,
    ):
        async with client.stream("GET", f"{url}/api/v1/generate/{view.id}/{what}") as answer:
            await anext(answer.aiter_bytes())
            assert stage.services.feed.listeners == 1
        await eventually(lambda: stage.services.feed.listeners == 0)


@pytest.mark.parametrize("what", ["events?audio=true", "audio?format=pcm"])
async def test_a_client_that_reads_nothing_is_cut(
    make_stage: Callable[..., Awaitable[Stage]], serve: Serve, what: str
) -> None:
    """The sockets' buffers fill up, then the server's patience ends."""
    stage = await make_stage(FakeGenerator(chunk_s=2.0), slow_listener_timeout_s=0.5)
    view = await stage.create(duration_s=120.0)
    async with stage.working(), serve(stage.app) as url:
        with deaf_to(url) as deaf:
            deaf.sendall(f"GET /api/v1/generate/{view.id}/{what} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await eventually(lambda: stage.services.feed.listeners == 1)
            await eventually(lambda: stage.services.feed.listeners == 0)
        await stage.ended(view.id)


async def test_live_audio_arrives_while_it_is_made(stage: Stage, serve: Serve, generator: FakeGenerator) -> None:
    gate = generator.hold(4)
    view = await stage.create(format="pcm")
    async with (
        stage.working(),
        serve(stage.app) as url,
        httpx2.AsyncClient(trust_env=False, timeout=PATIENCE_S) as client,
        client.stream("GET", f"{url}/api/v1/generate/{view.id}/audio") as answer,
    ):
        assert int(answer.headers["content-length"]) == len(track(1, 2.0))
        pieces = answer.aiter_bytes()
        got = b""
        while len(got) < 5 * 12_800:
            got += await anext(pieces)
        gate.set()
        async for piece in pieces:
            got += piece
    assert got == track(1, 2.0)
