"""Requests that the server gives up while they end, as Ray Serve does when a client has left: counted, and once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.types import Message

from api.generations import states
from api.generations.view import State
from api.services import Services
from api.store.schema import generations
from tests.api.asgi import Exchange
from tests.api.fakes import FakeGenerator
from tests.api.platform import Platform
from tests.api.streams.stage import Stage, eventually
from tests.api.streams.streaming import BODY, FORMATS, closed, counted
from tests.api.telemetry.test_counts import events, outcomes


@pytest.fixture
async def app(stage: Stage) -> AsyncIterator[FastAPI]:
    async with stage.working():
        yield stage.app


class GivenUp(Exchange):
    """The client leaves with the last byte: the server gives the request up in the moment in which it ends by itself.

    What reads from the client is the last that a response stops.
    """

    def give_up(self) -> None:
        assert self._task is not None
        self._task.cancel()

    async def finish(self) -> None:
        with pytest.raises(asyncio.CancelledError):
            await super().finish()

    async def _receive(self) -> Message:
        try:
            return await super()._receive()
        except asyncio.CancelledError:
            self.give_up()
            raise


def streams(app: FastAPI) -> dict[str, float]:
    """Outcome → streams."""
    found = counted(app, "tutti_requests_total")
    return {outcome: value for (mode, _, outcome, _), value in found.items() if mode == "stream"}


@pytest.mark.parametrize("audio_format", FORMATS)
async def test_a_stream_that_was_heard_counts_whatever_the_server_does_then(app: FastAPI, audio_format: str) -> None:
    exchange = GivenUp(app, {**BODY, "format": audio_format}).start()
    await exchange.finish()
    assert exchange.ended_well()
    assert streams(app) == {"completed": 1.0}
    events = counted(app, "tutti_sli_events_total")
    judged = {sli: value for (_, _, _, sli, _), value in events.items()}
    assert judged == dict.fromkeys(("admission", "continuity", "success", "ttfa", "validity"), 1.0)


async def test_who_leaves_stops_the_generation_also_when_the_server_gives_the_request_up(
    app: FastAPI, stage: Stage, generator: FakeGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator.hold(3)
    exchange, cancel = GivenUp(app, BODY), stage.services.generations.cancel

    async def given_up_meanwhile(*args: Any) -> Any:
        exchange.give_up()
        return await cancel(*args)

    monkeypatch.setattr(stage.services.generations, "cancel", given_up_meanwhile)
    exchange.start()
    await exchange.until(lambda: exchange.status == 200)
    exchange.disconnect()
    await exchange.finish()
    await closed(generator)
    assert (await stage.ended(exchange.headers["x-generation-id"])).state == State.CANCELLED
    assert streams(app) == {"cancelled": 1.0}


@pytest.mark.parametrize("moment", ["commit", "answer"])
async def test_a_stream_that_is_given_up_once_it_is_accepted_counts_and_is_stopped(
    app: FastAPI, stage: Stage, generator: FakeGenerator, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    generator.hold(0)
    exchange = GivenUp(app, BODY)
    give_up_at(monkeypatch, moment, exchange, stage.services)
    await exchange.start().finish()
    async with stage.services.db.read() as conn:
        (generation_id,) = (await conn.execute(select(generations.c.id))).scalars()
    assert (await stage.ended(generation_id)).state == State.CANCELLED
    assert streams(app) == {"cancelled": 1.0}
    assert [labels[:2] for labels in counted(app, "tutti_admission_decisions_total")] == [("accepted", "none")]


@pytest.mark.parametrize("moment", ["commit", "answer"])
async def test_a_job_that_is_given_up_once_it_is_accepted_counts_once(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    key = await platform.key(await platform.account())
    exchange = GivenUp(platform.app, BODY, path="/api/v1/generate", headers={"authorization": f"Bearer {key}"})
    give_up_at(monkeypatch, moment, exchange, platform.services)
    await exchange.start().finish()
    truth = Counter({("enterprise", "async", "completed"): 1})

    async def is_counted() -> bool:
        return await outcomes(platform) == truth

    await eventually(is_counted)
    assert (await events(platform))["admission", "enterprise", "good"] == 1


async def test_who_is_given_up_before_that_has_not_been_accepted(
    app: FastAPI, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = GivenUp(app, BODY)
    give_up_at(monkeypatch, "admission", exchange, stage.services)
    await exchange.start().finish()
    async with stage.services.db.read() as conn:
        assert (await conn.execute(select(generations.c.id))).all() == []
    assert streams(app) == {"cancelled": 1.0}
    assert [labels[:2] for labels in counted(app, "tutti_admission_decisions_total")] == [("rejected", "left")]


def give_up_at(monkeypatch: pytest.MonkeyPatch, moment: str, exchange: GivenUp, services: Services) -> None:
    """The server gives the request up at its first wait after this."""
    before, name = {
        "admission": (states, "create"),
        "commit": (states, "create"),
        "answer": (services.generations, "get"),
    }[moment]
    call = getattr(before, name)

    async def given_up(*args: Any) -> Any:
        if moment != "commit":
            exchange.give_up()
        found = await call(*args)
        if moment == "commit":
            exchange.give_up()
        return found

    monkeypatch.setattr(before, name, given_up)
