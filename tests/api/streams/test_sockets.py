"""WebSockets over a real server: tickets, subscriptions, limits, and how a connection ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from api.auth.principal import Principal, Scope
from api.generations.view import GenerationView
from api.streams import socket as socket_module
from api.streams.tickets import TICKET_TTL_S, Tickets
from tests.api.conftest import Serve
from tests.api.fakes import FakeGenerator
from tests.api.streams.stage import PATIENCE_S, Stage, Told, audio_of, eventually, track

PATH = "/api/v1/ws"


class Line:
    """A connection of a client."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, **message: Any) -> None:
        await self.connection.send(json.dumps(message))

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            message: dict[str, Any] = json.loads(await self.connection.recv())
        return message

    async def until(self, name: str) -> list[dict[str, Any]]:
        """Everything up to the event of this name."""
        messages = [await self.next()]
        while messages[-1]["event"] != name:
            messages.append(await self.next())
        return messages

    async def closed(self) -> int:
        """The code it was closed with."""
        async with asyncio.timeout(PATIENCE_S):
            await self.connection.wait_closed()
        assert self.connection.close_code is not None
        return self.connection.close_code


Dial = Callable[..., Any]


@pytest.fixture
async def dial(stage: Stage, serve: Serve) -> AsyncIterator[Dial]:
    """Connect with a ticket, one's own unless it is given."""
    async with AsyncExitStack() as stack:
        url = (await stack.enter_async_context(serve(stage.app))).replace("http:", "ws:")

        @asynccontextmanager
        async def connected(ticket: str | None = None, principal: Principal | None = None) -> AsyncIterator[Line]:
            if ticket is None:
                ticket = await Tickets(stage.services.cache).issue(principal or await stage.local())
            async with connect(f"{url}{PATH}?ticket={ticket}", proxy=None) as connection:
                yield Line(connection)

        yield connected


def as_told(messages: list[dict[str, Any]]) -> list[Told]:
    return [Told(message["event"], message["data"], message["id"]) for message in messages]


async def test_a_ticket_opens_one_connection(stage: Stage, dial: Dial) -> None:
    async with stage.client() as client:
        answer = await client.post(f"{PATH}/tickets")
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    given = answer.json()
    assert given["expires_in"] == TICKET_TTL_S
    assert given["url"] == f"{PATH}?ticket={given['ticket']}"
    async with dial(given["ticket"]) as line:
        await line.send(action="ping")
        assert await line.next() == {"event": "pong"}
    with pytest.raises(InvalidStatus) as caught:
        async with dial(given["ticket"]):
            pass
    assert caught.value.response.status_code == 401


@pytest.mark.parametrize("ticket", ["", "x", "y" * 1000, "%00"])
async def test_without_a_ticket_the_door_stays_shut(dial: Dial, ticket: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with dial(ticket):
            pass
    response = caught.value.response
    assert (response.status_code, response.headers["x-error-code"]) == (401, "invalid_credentials")
    assert json.loads(response.body or b"")["error"]["code"] == "invalid_credentials"


async def test_tickets_expire_and_are_stored_as_hashes(stage: Stage) -> None:
    redis = stage.services.cache.redis
    ticket = await Tickets(stage.services.cache).issue(await stage.local())
    [key] = [name async for name in redis.scan_iter(stage.services.cache.key("ticket", "*"))]
    assert ticket.encode() not in key
    assert 0 < await redis.ttl(key) <= TICKET_TTL_S
    await redis.delete(key)
    assert await Tickets(stage.services.cache).redeem(ticket) is None


async def test_a_ticket_stands_for_the_whole_principal(stage: Stage) -> None:
    principal = replace(
        await stage.account(), scopes=frozenset({Scope.AUDIO_READ}), api_key_id="key_1", test_mode=True, kind="api_key"
    )
    tickets = Tickets(stage.services.cache)
    assert await tickets.redeem(await tickets.issue(principal)) == principal


async def test_without_a_cache_there_are_no_tickets(make_stage: Callable[..., Awaitable[Stage]]) -> None:
    stage = await make_stage(FakeGenerator(), redis_url="redis://127.0.0.1:1/0")
    async with stage.client() as client:
        answer = await client.post(f"{PATH}/tickets")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
    assert "cache" in answer.json()["error"]["details"]["dependencies"]


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


async def refused(line: Line, **message: Any) -> tuple[str, str | None]:
    await line.send(**message)
    told = await line.next()
    assert told["event"] == "error"
    return told["error"]["code"], told["error"]["param"]


async def test_foreign_generations_are_not_there(stage: Stage, dial: Dial) -> None:
    foreign = await stage.create(await stage.account())
    async with dial() as line:
        for name in (foreign.id, f"gen_{'0' * 24}"):
            await line.send(action="subscribe", generation_id=name)
            told = await line.next()
            assert (told["event"], told["generation_id"]) == ("error", name)
            assert told["error"]["code"] == "generation_not_found"
            assert told["error"]["request_id"].startswith("req_")


async def test_a_ticket_is_good_for_its_own_account(stage: Stage, dial: Dial) -> None:
    owner = await stage.account()
    view = await stage.create(owner)
    async with dial(principal=owner) as line:
        await line.send(action="subscribe", generation_id=view.id)
        assert (await line.next())["event"] == "snapshot"


async def test_audio_needs_its_scope(stage: Stage, dial: Dial) -> None:
    owner = replace(await stage.account(), scopes=frozenset({Scope.GENERATIONS_READ}))
    view = await stage.create(owner)
    async with dial(principal=owner) as line:
        assert await refused(line, action="subscribe", generation_id=view.id, audio=True) == ("permission_denied", None)
        await line.send(action="subscribe", generation_id=view.id)
        assert (await line.next())["event"] == "snapshot"


async def test_what_is_not_understood_is_said(stage: Stage, dial: Dial) -> None:
    view = await stage.create()
    async with dial() as line:
        await line.connection.send("{")
        assert (await line.next())["error"]["code"] == "malformed_body"
        for message in ({}, {"action": "dance"}, {"action": "subscribe"}, {"action": "ping", "more": 1}):
            assert (await refused(line, **message))[0] in ("invalid_parameter", "malformed_body")
        bad: list[dict[str, Any]] = [{"generation_id": "x"}, {"audio": "yes"}, {"last_event_id": "1.2.3"}]
        for change in bad:
            code, param = await refused(line, **{"action": "subscribe", "generation_id": view.id, **change})
            assert (code, str(param).rpartition(".")[2]) == ("invalid_parameter", next(iter(change)))
        assert (await refused(line, action="unsubscribe", generation_id=view.id))[0] == "invalid_parameter"
        await line.send(action="subscribe", generation_id=view.id)
        await line.next()
        assert (await refused(line, action="subscribe", generation_id=view.id))[0] == "invalid_parameter"


async def test_subscriptions_are_limited(stage: Stage, dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_module, "MAX_SUBSCRIPTIONS", 2)
    views: list[GenerationView] = [await stage.create() for _ in range(3)]
    async with dial() as line:
        for view in views[:2]:
            await line.send(action="subscribe", generation_id=view.id)
            await line.next()
        assert (await refused(line, action="subscribe", generation_id=views[2].id))[0] == "limit_reached"
        await line.send(action="unsubscribe", generation_id=views[0].id)
        await line.next()
        await line.send(action="subscribe", generation_id=views[2].id)
        assert (await line.next())["event"] == "snapshot"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("x" * (socket_module.MAX_MESSAGE_BYTES + 1), socket_module.CLOSE_TOO_BIG),
        (b"{}", socket_module.CLOSE_UNSUPPORTED),
    ],
    ids=["too big", "bytes"],
)
async def test_messages_that_are_none_close(stage: Stage, dial: Dial, message: str | bytes, code: int) -> None:
    async with dial() as line:
        await line.connection.send(message)
        assert await line.closed() == code
    assert code in socket_module.CLOSE_CODES


async def test_the_end_of_the_server_is_the_end(stage: Stage, serve: Serve) -> None:
    ticket = await Tickets(stage.services.cache).issue(await stage.local())
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
    stage = await make_stage(FakeGenerator(), slow_listener_timeout_s=0.5)
    view = await stage.create(duration_s=600.0)
    async with stage.working(), serve(stage.app) as url:
        ticket = await Tickets(stage.services.cache).issue(await stage.local())
        address = f"{url.replace('http:', 'ws:')}{PATH}?ticket={ticket}"
        async with connect(address, proxy=None, max_queue=1, ping_interval=None) as connection:
            await Line(connection).send(action="subscribe", generation_id=view.id, audio=True)
            await eventually(lambda: stage.services.feed.listeners == 1)
            await eventually(lambda: stage.services.feed.listeners == 0)
            connection.transport.abort()
