"""Streams that were opened with a credential end soon after it has ended, and say why."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import pytest
import structlog
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth.api_keys import NewKey
from api.auth.principal import ALL_SCOPES, Principal
from api.clock import utc_now
from api.generations import states
from api.generations.view import GenerationView
from api.store.database import Database
from api.store.errors import StoreError
from api.store.schema import accounts, api_keys, refresh_tokens
from api.streams import access
from api.streams.access import Access, AccessChecks, refusal
from tests.api.asgi import Exchange
from tests.api.fakes import FakeGenerator
from tests.api.streams.line import PATH, Dial
from tests.api.streams.stage import PATIENCE_S, Stage, eventually, parse_sse

OFTEN_S = 0.02
ENDS = {
    "key revoked": "credentials_revoked",
    "key expired": "credentials_expired",
    "logged out": "credentials_revoked",
    "session expired": "credentials_expired",
    "account erased": "credentials_revoked",
    "account suspended": "account_suspended",
}


@pytest.fixture
async def stage(make_stage: Callable[..., Awaitable[Stage]], generator: FakeGenerator) -> Stage:
    """One gateway that asks often."""
    return await make_stage(generator, stream_access_check_s=OFTEN_S)


@dataclass
class Holder:
    """An account with a key and a session, and ways to lose them."""

    stage: Stage
    owner: Principal
    key: str
    key_id: str
    token: str
    session_id: str

    def headers(self, how: str) -> dict[str, str]:
        secret = self.token if how in ("logged out", "session expired") else self.key
        return {"authorization": f"Bearer {secret}"}

    async def lose(self, how: str) -> None:
        services, past = self.stage.services, self.stage.services.clock() - timedelta(seconds=1)
        if how == "key revoked":
            await services.accounts.keys.revoke(self.owner.account_id, self.key_id)
        elif how == "logged out":
            await services.accounts._sessions.end_by_id(self.session_id, self.owner.account_id)
        elif how == "account erased":
            await services.accounts.erase(self.owner)
        else:
            statement = {
                "key expired": update(api_keys).where(api_keys.c.id == self.key_id).values(expires_at=past),
                "session expired": update(refresh_tokens)
                .where(refresh_tokens.c.family_id == self.session_id)
                .values(expires_at=past),
                "account suspended": update(accounts)
                .where(accounts.c.id == self.owner.account_id)
                .values(status="suspended"),
            }[how]
            async with services.db.begin() as conn:
                await conn.execute(statement)


@pytest.fixture
async def holder(stage: Stage) -> Holder:
    owner = await stage.account()
    service = stage.services.accounts
    made = await service.keys.create(owner.account_id, NewKey("test", "live", ALL_SCOPES))
    session = await service._sessions.open(owner.account_id, "token")
    return Holder(stage, owner, made.secret, made.key.id, service.grant(session).access_token, session.id)


async def running(stage: Stage, holder: Holder) -> GenerationView:
    """One that is being made; erasing the account does not end it at once."""
    view = await stage.create(holder.owner)
    async with stage.services.db.begin() as conn:
        now = stage.services.clock()
        await states.start(conn, view.id, view.account_id, "wrk_1", now, charge_s=1.0, lease_s=1000.0)
    return view


def listen(stage: Stage, view: GenerationView, headers: dict[str, str], what: str = "events") -> Exchange:
    return Exchange(stage.app, path=f"/api/v1/generate/{view.id}/{what}", method="GET", headers=headers).start()


@pytest.mark.parametrize("how", ENDS)
async def test_events_end_with_the_error(stage: Stage, holder: Holder, how: str) -> None:
    view = await running(stage, holder)
    exchange = listen(stage, view, holder.headers(how))
    await exchange.until(lambda: len(parse_sse(exchange.body)) == 1)
    await holder.lose(how)
    await exchange.finish()
    last = parse_sse(exchange.body)[-1]
    assert (last.name, last.data["error"]["code"], last.id) == ("error", ENDS[how], None)
    assert last.data["error"]["request_id"] == exchange.headers["x-request-id"]
    assert exchange.ended_well()
    assert (stage.services.feed.listeners, stage.services.access.listeners) == (0, 0)


@pytest.mark.parametrize("how", ENDS)
async def test_a_websocket_is_told_and_closed(stage: Stage, dial: Dial, holder: Holder, how: str) -> None:
    view = await running(stage, holder)
    async with stage.client() as client:
        answer = await client.post(f"{PATH}/tickets", headers=holder.headers(how))
    async with dial(answer.json()["ticket"]) as line:
        await line.send(action="subscribe", generation_id=view.id)
        assert (await line.next())["event"] == "snapshot"
        await holder.lose(how)
        last = (await line.until("error"))[-1]
        assert (last["error"]["code"], last["generation_id"]) == (ENDS[how], None)
        assert await line.closed() == (4403 if how == "account suspended" else 4401)
    assert (stage.services.feed.listeners, stage.services.access.listeners) == (0, 0)


async def test_audio_that_has_begun_is_cut(stage: Stage, holder: Holder, generator: FakeGenerator) -> None:
    generator.hold(4)
    view = await stage.create(holder.owner, format="pcm")
    async with stage.working():
        exchange = listen(stage, view, holder.headers("key revoked"), "audio")
        await exchange.until(lambda: bool(exchange.body))
        await holder.lose("key revoked")
        with pytest.raises(RuntimeError, match="already started"):
            await exchange.finish()
        assert not exchange.ended_well()
        assert not (await stage.services.generations.get(holder.owner, view.id)).is_terminal


async def test_audio_that_has_not_begun_is_refused(stage: Stage, holder: Holder) -> None:
    view = await stage.create(holder.owner)
    exchange = listen(stage, view, holder.headers("key revoked"), "audio")
    await eventually(lambda: stage.services.access.listeners == 1)
    await holder.lose("key revoked")
    await exchange.finish()
    assert (exchange.status, json.loads(exchange.body)["error"]["code"]) == (401, "credentials_revoked")


async def test_other_listeners_go_on(stage: Stage, holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same account even, with another credential; also when they are more than are asked for at once."""
    monkeypatch.setattr(access, "BATCH", 1)
    view = await stage.create(holder.owner)
    with_key = listen(stage, view, holder.headers("key revoked"))
    with_session = listen(stage, view, holder.headers("logged out"))
    local = listen(stage, await stage.create(), {})
    await eventually(lambda: stage.services.access.listeners == 3)
    await holder.lose("key revoked")
    await with_key.finish()
    async with stage.working():
        for exchange in (with_session, local):
            await exchange.finish()
            assert parse_sse(exchange.body)[-1].name == "done"


async def test_an_access_token_that_runs_out_ends_nothing(
    stage: Stage, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New requests need a new one; the session that gives it out still vouches for the stream."""
    view = await stage.create(holder.owner)
    exchange = listen(stage, view, holder.headers("logged out"))
    await eventually(lambda: stage.services.access.listeners == 1)
    later = utc_now() + timedelta(hours=1)
    monkeypatch.setattr(stage.services.access, "_clock", lambda: later)
    async with stage.working():
        await exchange.finish()
    assert parse_sse(exchange.body)[-1].name == "done"


# ------------------------------------------------------------------------------------------- on their own
class Away:
    """A database that does not answer at first."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.left = 2

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        if self.left:
            self.left -= 1
            raise StoreError("away")
        async with self._db.read() as conn:
            yield conn


@pytest.fixture
def log() -> structlog.testing.LogCapture:
    return structlog.testing.LogCapture()


async def test_a_database_that_is_away_is_asked_again(database: Database, log: structlog.testing.LogCapture) -> None:
    logger: Any = structlog.wrap_logger(
        None, processors=[log], wrapper_class=structlog.make_filtering_bound_logger(0)
    ).bind()
    checks = AccessChecks(cast(Database, Away(database)), utc_now, OFTEN_S, logger)
    with checks.hold(Access("acc_nobody")) as lost, checks.hold(Access("acc_nobody")) as other:
        assert refusal(lost) is None
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait([lost, other])
        found = [refusal(each) for each in (lost, other)]
        assert [error is not None and error.code.value for error in found] == ["credentials_revoked"] * 2
        assert found[0] is not found[1]
    assert [entry["event"] for entry in log.entries] == ["access_checks_wait_for_the_database"] * 2
    assert checks.listeners == 0
    await checks.close()
