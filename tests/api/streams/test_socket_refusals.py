"""What a WebSocket does not do: without a ticket, for strangers, beyond its limits."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from websockets.exceptions import InvalidStatus

from api.auth.principal import Scope
from api.generations.view import GenerationView
from api.streams import socket as socket_module
from api.streams.tickets import TICKET_TTL_S, Holder, Tickets
from tests.api.conftest import Serve
from tests.api.fakes import FakeGenerator
from tests.api.platform import get
from tests.api.streams.conftest import dialling
from tests.api.streams.line import PATH, Dial, Line
from tests.api.streams.stage import Stage, eventually

TIERS = Path(__file__).resolve().parents[3] / "api" / "limits" / "tiers.yaml"


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


def enterprise(folder: Path, **limits: int) -> Path:
    """The tiers file, with other limits for the tier that a stage's accounts have."""
    tiers = yaml.safe_load(TIERS.read_text(encoding="utf-8"))
    tiers["tiers"]["enterprise"] |= limits
    file = folder / "tiers.yaml"
    file.write_text(yaml.safe_dump(tiers, sort_keys=False), encoding="utf-8")
    return file


async def test_subscriptions_count_as_requests(
    make_stage: Callable[..., Awaitable[Stage]], serve: Serve, tmp_path: Path
) -> None:
    """By the tier of the account, over all of its connections; what is refused is refused before anybody is asked."""
    stage = await make_stage(FakeGenerator(), tiers_file=enterprise(tmp_path, requests_per_minute=3))
    owner = await stage.account()
    views = [await stage.create(owner) for _ in range(2)]
    async with dialling(stage, serve) as dial, dial(principal=owner) as first, dial(principal=owner) as second:
        for line, view in zip((first, second, first), (views[0], views[0], views[1]), strict=True):
            await line.send(action="subscribe", generation_id=view.id)
            assert (await line.next())["event"] == "snapshot"
        await second.send(action="subscribe", generation_id=views[1].id)
        told = await second.next()
        assert (told["event"], told["error"]["code"], told["generation_id"]) == ("error", "rate_limited", views[1].id)
        assert 0 < told["retry_after"] <= 60
        await second.send(action="ping")
        assert await second.next() == {"event": "pong"}


async def test_an_account_holds_as_many_streams_open_as_its_tier_may(
    make_stage: Callable[..., Awaitable[Stage]], serve: Serve, tmp_path: Path
) -> None:
    """Of any kind; others are not concerned, and one that is closed makes room."""
    stage = await make_stage(FakeGenerator(), tiers_file=enterprise(tmp_path, listeners=1))
    owner, other = await stage.account(), await stage.account()
    view = await stage.create(await stage.local())
    async with dialling(stage, serve) as dial:
        async with dial(principal=owner), dial(principal=other), dial():
            with pytest.raises(InvalidStatus) as caught:
                async with dial(principal=owner):
                    pass
            for path in ("events", "audio"):
                refused = await get(stage.app, f"/api/v1/generate/{view.id}/{path}")  # by the third, on this machine
                assert (refused.status_code, refused.headers["x-error-code"]) == (429, "rate_limited")
                assert refused.json()["error"]["details"] == {"policy": "listeners", "limit": 1}
        response = caught.value.response
        assert (response.status_code, response.headers["x-error-code"]) == (429, "rate_limited")
        assert int(response.headers["retry-after"]) > 0
        await eventually(lambda: stage.services.access.listeners == 0)
        async with dial(principal=owner):
            pass


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
    ticket = await Tickets(stage.services.cache).issue(Holder(await stage.local()))
    [key] = [name async for name in redis.scan_iter(stage.services.cache.key("ticket", "*"))]
    assert ticket.encode() not in key
    assert 0 < await redis.ttl(key) <= TICKET_TTL_S
    await redis.delete(key)
    assert await Tickets(stage.services.cache).redeem(ticket) is None


async def test_a_ticket_stands_for_the_whole_of_its_holder(stage: Stage) -> None:
    principal = replace(
        await stage.account(), scopes=frozenset({Scope.AUDIO_READ}), api_key_id="key_1", test_mode=True, kind="api_key"
    )
    tickets = Tickets(stage.services.cache)
    holder = Holder(principal, "ses_1")
    assert await tickets.redeem(await tickets.issue(holder)) == holder


async def test_without_a_cache_there_are_no_tickets(make_stage: Callable[..., Awaitable[Stage]]) -> None:
    stage = await make_stage(FakeGenerator(), redis_url="redis://127.0.0.1:1/0")
    async with stage.client() as client:
        answer = await client.post(f"{PATH}/tickets")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
    assert "cache" in answer.json()["error"]["details"]["dependencies"]


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
