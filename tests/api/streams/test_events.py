"""Server-sent events: a snapshot first, then each thing once, across connections, gateways and lost caches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest
from sqlalchemy import delete, update
from starlette.types import Message

from api.auth.api_keys import NewKey
from api.auth.principal import Scope
from api.generations import retries
from api.generations.view import GenerationView
from api.store.schema import generations, tracks
from api.streams.events import Narrator, ResumePoint
from api.streams.live import SlowListenerError
from models.errors import GenerationFailedError
from tests.api.asgi import Exchange
from tests.api.fakes import FakeGenerator
from tests.api.streams.listening import check_ids, listen, told
from tests.api.streams.stage import Stage, audio_of, eventually, parse_sse, track


def steady(snapshot: dict[str, Any]) -> dict[str, Any]:
    """Without what changes by itself while one waits."""
    return {name: value for name, value in snapshot.items() if name not in ("queue_position", "eta_s")}


async def seen(stage: Stage, view: GenerationView) -> dict[str, Any]:
    async with stage.client() as client:
        answer: dict[str, Any] = (await client.get(f"/api/v1/generate/{view.id}")).json()
    return steady(answer)


async def test_a_life_is_told_from_the_queue_to_the_end(stage: Stage) -> None:
    view = await stage.create()
    before = await seen(stage, view)
    exchange = listen(stage.app, view)
    await exchange.until(lambda: len(parse_sse(exchange.body)) == 1)
    async with stage.working():
        await exchange.finish()
    events = parse_sse(exchange.body)
    check_ids(events)
    assert [event.name for event in events] == ["snapshot", "state", "done"]
    assert [event.data["state"] for event in events] == ["queued", "running", "succeeded"]
    assert [event.id for event in events] == [None, "2.0", "3.0"]
    assert steady(events[0].data) == before
    assert steady(events[-1].data) == await seen(stage, view)
    assert exchange.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert exchange.headers["cache-control"] == "no-store"
    assert exchange.body.startswith(b"retry: ")


async def test_with_audio_every_piece_is_told(stage: Stage) -> None:
    view = await stage.create(num_tracks=2)
    exchange = listen(stage.app, view, "?audio=true")
    async with stage.working():
        await exchange.finish()
    events = parse_sse(exchange.body)
    check_ids(events)
    assert (events[0].name, events[-1].name) == ("snapshot", "done")
    assert [audio_of(events, position) for position in range(2)] == [track(1, 2.0), track(2, 2.0)]
    assert events[-1].id == "3.10.10"
    first = next(event.data for event in events if event.name == "audio" and event.data["track"] == 0)
    del first["data"]
    assert first == {
        "track": 0, "index": 0, "first_sample": 0, "num_samples": 6_400, "sample_rate": 32_000, "channels": 1,
        "total_samples": 64_000, "encoding": "s16le",
    }  # fmt: skip


@pytest.mark.parametrize("state", ["failed", "cancelled"])
async def test_a_bad_end_is_told_as_an_end(
    stage: Stage, generator: FakeGenerator, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr(retries, "_BACKOFF_S", (0.0, 0.0, 0.0))
    generator.errors[4] = GenerationFailedError("the row broke")
    gate = generator.hold(4)
    owner = await stage.local()
    view = await stage.create(owner)
    exchange = listen(stage.app, view, "?audio=true")
    async with stage.working():
        await exchange.until(lambda: len(parse_sse(exchange.body)) >= 6)
        if state == "cancelled":
            await stage.services.generations.cancel(owner, view.id)
        else:
            gate.set()
        await exchange.finish()
    events = parse_sse(exchange.body)
    check_ids(events)
    assert (events[-1].name, events[-1].data["state"]) == ("done", state)
    assert track(1, 2.0).startswith(audio_of(events))
    if state == "failed":
        assert events[-1].data["error"]["code"] == "generation_failed"


async def test_a_removed_generation_is_an_error_event(stage: Stage) -> None:
    view = await stage.create()
    exchange = listen(stage.app, view)
    await exchange.until(lambda: len(parse_sse(exchange.body)) == 1)
    async with stage.services.db.begin() as conn:
        await conn.execute(delete(generations).where(generations.c.id == view.id))
    await exchange.finish()
    [_, error] = parse_sse(exchange.body)
    assert (error.name, error.data["error"]["code"], error.id) == ("error", "generation_not_found", None)
    assert error.data["error"]["request_id"] == exchange.headers["x-request-id"]
    assert exchange.ended_well()


async def test_audio_that_can_not_be_read_is_an_error_event(stage: Stage) -> None:
    view = await stage.create()
    async with stage.working():
        ended_view = await stage.ended(view.id)
    await stage.flush()
    key = ended_view.tracks[0].object_key
    assert key is not None
    await stage.services.audio.delete(key)
    events = await told(stage.app, view, "?audio=true")
    assert [event.name for event in events] == ["snapshot", "error"]
    assert events[1].data["error"]["type"] == "server_error"


async def test_a_deleted_track_is_passed_over(stage: Stage) -> None:
    view = await stage.create(num_tracks=2)
    async with stage.working():
        await stage.ended(view.id)
    async with stage.services.db.begin() as conn:
        await conn.execute(delete(tracks).where(tracks.c.generation_id == view.id, tracks.c.position == 0))
    events = await told(stage.app, view, "?audio=true")
    assert {event.data["track"] for event in events if event.name == "audio"} == {1}
    assert audio_of(events, 1) == track(2, 2.0)
    assert events[-1].id == "3.0.10"


async def test_leaving_leaves_nothing(stage: Stage) -> None:
    view = await stage.create()
    exchanges = [listen(stage.app, view, "?audio=true") for _ in range(5)]
    feed = stage.services.feed
    await eventually(lambda: feed.listeners == 5)
    for exchange in exchanges[:3]:
        exchange.disconnect()
        await exchange.finish()
    for exchange in exchanges[3:]:
        await exchange.cancel()
    assert (feed.listeners, feed.watched) == (0, 0)
    view = await stage.services.generations.get(await stage.local(), view.id)
    assert not view.is_terminal  # a listener that leaves stops no generation


class Stuck(Exchange):
    """A client that takes the first events and no more."""

    async def _send(self, message: Message) -> None:
        if len(self.messages) > 3:
            await asyncio.Event().wait()
        await super()._send(message)


async def test_a_listener_that_stops_reading_is_cut(make_stage: Callable[..., Awaitable[Stage]]) -> None:
    stage = await make_stage(FakeGenerator(), slow_listener_timeout_s=0.2)
    view = await stage.create()
    async with stage.working():
        exchange = Stuck(stage.app, path=f"/api/v1/generate/{view.id}/events?audio=true", method="GET").start()
        with pytest.raises(SlowListenerError):
            await exchange.finish()
    assert not exchange.ended_well()
    assert stage.services.feed.listeners == 0


async def test_a_send_that_fails_ends_the_listener(stage: Stage) -> None:
    view = await stage.create()
    exchange = Exchange(
        stage.app, path=f"/api/v1/generate/{view.id}/events", method="GET", send_fails_on="http.response.body"
    ).start()
    with pytest.raises(OSError, match="gone"):
        await exchange.finish()
    assert stage.services.feed.listeners == 0


async def test_quiet_is_broken_by_pings(stage: Stage) -> None:
    view = await stage.create()
    async with stage.services.feed.watch(view) as watch:
        narrator = Narrator(watch, ResumePoint.parse(None, 1), lambda _: "{}", audio=True, ping_s=0.01)
        async with aclosing(narrator.events()) as events:
            first = await anext(events)
            assert first is not None
            assert first.name == "snapshot"
            assert [await anext(events) for _ in range(2)] == [None, None]


async def test_a_version_missed_between_two_looks_is_not_missed(stage: Stage) -> None:
    """States are told as they are, not as they were: what matters is that the newest is told."""
    view = await stage.create()
    exchange = listen(stage.app, view)
    await exchange.until(lambda: len(parse_sse(exchange.body)) == 1)
    async with stage.services.db.begin() as conn:
        await conn.execute(update(generations).where(generations.c.id == view.id).values(version=7))
    await exchange.until(lambda: len(parse_sse(exchange.body)) == 2)  # by the poll: nobody rang
    assert parse_sse(exchange.body)[-1].id == "7.0"
    exchange.disconnect()
    await exchange.finish()


async def test_foreign_and_unknown_generations_are_not_there(stage: Stage) -> None:
    view = await stage.create(await stage.account())
    async with stage.client() as client:
        for name in (view.id, f"gen_{'0' * 24}"):
            for what in ("events", "audio"):
                answer = await client.get(f"/api/v1/generate/{name}/{what}")
                assert (answer.status_code, answer.json()["error"]["code"]) == (404, "generation_not_found")


async def test_audio_needs_its_scope(stage: Stage) -> None:
    owner = await stage.account()
    view = await stage.create(owner)
    scopes = frozenset({Scope.GENERATIONS_READ})
    made = await stage.services.accounts.keys.create(owner.account_id, NewKey("test", "live", scopes))
    headers = {"authorization": f"Bearer {made.secret}"}
    async with stage.client() as client:
        for path in ("events?audio=true", "audio"):
            answer = await client.get(f"/api/v1/generate/{view.id}/{path}", headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "permission_denied")
    exchange = Exchange(stage.app, path=f"/api/v1/generate/{view.id}/events", method="GET", headers=headers).start()
    await exchange.until(lambda: len(parse_sse(exchange.body)) == 1)
    exchange.disconnect()
    await exchange.finish()


async def test_a_snapshot_is_one_line(stage: Stage) -> None:
    """Line breaks in a prompt do not break the stream."""
    view = await stage.create(prompt="one\ntwo\r\n\nthree\u2028four")
    exchange = listen(stage.app, view)
    await exchange.until(lambda: len(parse_sse(exchange.body)) == 1)
    assert parse_sse(exchange.body)[0].data["parameters"]["prompt"] == view.prompt
    assert json.dumps(view.prompt).encode() in exchange.body
    exchange.disconnect()
    await exchange.finish()
