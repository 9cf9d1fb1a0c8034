"""WebSockets over a real server: tickets, subscriptions, limits, and how a connection ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect

from api.streams import socket as socket_module
from api.streams.tickets import Holder, Tickets
from tests.api.conftest import Serve
from tests.api.fakes import FakeGenerator
from tests.api.streams.line import PATH, Dial, Line, deaf_to
from tests.api.streams.stage import Stage, Told, audio_of, eventually, track


def as_told(messages: list[dict[str, Any]]) -> list[Told]:
    return [Told(message["event"], message["data"], message["id"]) for message in messages]


async def test_a_subscription_is_told_like_an_event_stream(stage: Stage, dial: Dial) -> None:
    views = [await stage.create(seed=seed) for seed in (1, 2)]
    async with dial() as line:
        for view in views:
            await line.send(action="subscribe", generation_id=view.id, audio=True)
        async with stage.working():
            messages = await line.until("done") + await line.until("done")
    for view, seed in zip(views, (1, 2), strict=True):
        events = as_told([message for message in messages if message["generation_id"] == view.id])
        assert (events[0].name, events[0].id) == ("snapshot", None)
        assert audio_of(events) == track(seed, 2.0)
        assert (events[-1].name, events[-1].id) == ("done", "3.10")
        assert events[-1].data["state"] == "succeeded"
    assert stage.services.feed.listeners == 0


async def test_one_comes_back_to_where_one_was(stage: Stage, dial: Dial, generator: FakeGenerator) -> None:
    gate = generator.hold(4)
    view = await stage.create()
    async with stage.working():
        async with dial() as line:
            await line.send(action="subscribe", generation_id=view.id, audio=True)
            first = [await line.next() for _ in range(6)]
        gate.set()
        async with dial() as line:
            last = first[-1]["id"]
            await line.send(action="subscribe", generation_id=view.id, audio=True, last_event_id=last)
            second = await line.until("done")
    assert audio_of(as_told(first)) + audio_of(as_told(second)) == track(1, 2.0)


async def test_one_may_stop_listening(stage: Stage, dial: Dial) -> None:
    view = await stage.create()
    async with dial() as line:
        for _ in range(2):
            await line.send(action="subscribe", generation_id=view.id)
            assert (await line.next())["event"] == "snapshot"
            await line.send(action="unsubscribe", generation_id=view.id)
            assert await line.next() == {"event": "unsubscribed", "generation_id": view.id}
            assert stage.services.feed.listeners == 0


async def test_hanging_up_leaves_nothing(stage: Stage, dial: Dial) -> None:
    view = await stage.create()
    for end in ("close", "abort"):
        async with dial() as line:
            await line.send(action="subscribe", generation_id=view.id)
            await line.next()
            assert stage.services.feed.listeners == 1
            if end == "abort":
                line.connection.transport.abort()
        await eventually(lambda: stage.services.feed.listeners == 0)
    view = await stage.services.generations.get(await stage.local(), view.id)
    assert not view.is_terminal


async def test_the_end_of_the_server_is_the_end(stage: Stage, serve: Serve) -> None:
    ticket = await Tickets(stage.services.cache).issue(Holder(await stage.local()))
    async with serve(stage.app) as url:
        connection = await connect(f"{url.replace('http:', 'ws:')}{PATH}?ticket={ticket}", proxy=None)
    assert await Line(connection).closed() in (1001, 1012)


async def test_a_bug_in_a_subscription_closes_and_is_logged(
    stage: Stage, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = await stage.create()

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(socket_module, "Narrator", broken)
    async with dial() as line:
        await line.send(action="subscribe", generation_id=view.id)
        assert await line.closed() == socket_module.CLOSE_INTERNAL
    assert [entry["log_level"] for entry in stage.log.entries if entry["event"] == "websocket_broke"] == ["error"]
    assert stage.services.feed.listeners == 0


async def test_quiet_is_broken_by_pings(stage: Stage, dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_module.Session, "ping_s", 0.02)
    async with dial() as line:
        assert await line.next() == {"event": "ping"}


async def test_a_client_that_reads_nothing_is_cut(make_stage: Callable[..., Awaitable[Stage]], serve: Serve) -> None:
    """The sockets' buffers fill up; then the server's patience ends, and nothing is left of the connection."""
    stage = await make_stage(FakeGenerator(chunk_s=2.0), slow_listener_timeout_s=0.5)
    view = await stage.create(duration_s=120.0)
    async with stage.working(), serve(stage.app) as url:
        ticket = await Tickets(stage.services.cache).issue(Holder(await stage.local()))
        address = f"{url.replace('http:', 'ws:')}{PATH}?ticket={ticket}"
        async with connect(address, sock=deaf_to(url), max_queue=1, ping_interval=None) as connection:
            await Line(connection).send(action="subscribe", generation_id=view.id, audio=True)
            await eventually(lambda: stage.services.feed.listeners == 1)
            await eventually(lambda: stage.services.feed.listeners == 0)
            connection.transport.abort()
