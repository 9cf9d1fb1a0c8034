"""The door: a queue of creates that stands is refused before anything else is done for them; nobody else is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select

from api.limits.door import WAITING, Undecided
from api.services import Services
from api.store.schema import generations
from tests.api.fakes import FakeGenerator
from tests.api.generations.conftest import eventually

CREATES = ("/api/v1/generate", "/api/v1/generate/stream")
BODY = {"prompt": "calm piano", "duration": 0.5}
PATIENCE_S = 30.0


@pytest.fixture
def services(app: FastAPI) -> Services:
    found: Services = app.state.services
    return found


async def stand(undecided: Undecided) -> list[int]:
    """As many creates as may wait, for longer than they may; returns their numbers."""
    numbers = [undecided.enter() for _ in range(WAITING)]
    await eventually(lambda: undecided.is_full)  # only time brings it about
    return numbers


async def made(services: Services) -> int:
    async with services.db.read() as conn:
        return int(await conn.scalar(select(func.count()).select_from(generations)) or 0)


@pytest.mark.parametrize("path", CREATES)
async def test_a_standing_queue_is_refused_at_the_door(
    client: httpx2.AsyncClient, services: Services, path: str
) -> None:
    waiting = await stand(services.limits.undecided)
    refused = await client.post(path, json=BODY)
    assert refused.status_code == 503
    assert refused.headers["x-error-code"] == "system_overloaded"
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["x-request-id"] == refused.json()["error"]["request_id"]
    assert refused.json()["error"]["retryable"] is True
    assert await made(services) == 0

    services.limits.undecided.leave(waiting[0])
    assert (await client.post(path, json=BODY)).is_success


async def test_who_looks_or_listens_is_answered(client: httpx2.AsyncClient, services: Services) -> None:
    created = (await client.post(CREATES[0], json=BODY)).json()
    await stand(services.limits.undecided)
    assert (await client.get(created["links"]["self"])).status_code == 200
    assert (await client.get(created["links"]["events"])).status_code == 200
    assert (await client.post(f"/api/v1/generate/{created['id']}/cancel")).status_code in (200, 202, 409)


async def test_a_refused_create_goes_through_later_with_the_same_key(
    client: httpx2.AsyncClient, services: Services
) -> None:
    waiting = await stand(services.limits.undecided)
    key = {"Idempotency-Key": "one-and-the-same"}
    assert (await client.post(CREATES[0], json=BODY, headers=key)).status_code == 503
    for number in waiting:
        services.limits.undecided.leave(number)
    first, again = [await client.post(CREATES[0], json=BODY, headers=key) for _ in range(2)]
    assert first.status_code == again.status_code == 202
    assert first.json()["id"] == again.json()["id"]


def test_a_burst_is_let_in() -> None:
    undecided = Undecided()
    numbers = [undecided.enter() for _ in range(WAITING - 1)]
    assert not undecided.is_full
    for number in [*numbers, *numbers]:
        undecided.leave(number)
    assert len(undecided) == 0


async def test_the_oldest_decides_whether_the_queue_stands() -> None:
    undecided = Undecided()
    oldest, *_ = await stand(undecided)
    for _ in range(WAITING):
        undecided.enter()
    assert undecided.is_full
    undecided.leave(oldest)
    assert len(undecided) == 2 * WAITING - 1


def waits_for_the_end(client: httpx2.AsyncClient) -> Awaitable[httpx2.Response]:
    return client.post(CREATES[0], json=BODY, headers={"Prefer": "wait=30"})


def streams(client: httpx2.AsyncClient) -> Awaitable[httpx2.Response]:
    return client.post(CREATES[1], json=BODY)


@pytest.mark.parametrize("call", [waits_for_the_end, streams])
async def test_a_create_that_waits_for_its_music_is_decided(
    client: httpx2.AsyncClient,
    services: Services,
    generator: FakeGenerator,
    call: Callable[[httpx2.AsyncClient], Awaitable[httpx2.Response]],
) -> None:
    gate = generator.hold(0)
    calling = asyncio.ensure_future(call(client))
    async with asyncio.timeout(PATIENCE_S):
        await generator.reached[0].wait()
    # Accepted is told to the worker at the end of the transaction, a moment before the route goes on.
    await eventually(lambda: len(services.limits.undecided) == 0)
    assert not calling.done()
    gate.set()
    assert (await calling).status_code == 200


async def test_a_create_that_is_wrong_leaves_nothing_behind(client: httpx2.AsyncClient, services: Services) -> None:
    assert (await client.post(CREATES[0], json={"prompt": ""})).status_code == 422
    assert len(services.limits.undecided) == 0
