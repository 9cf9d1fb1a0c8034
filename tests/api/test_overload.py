"""The door: a queue of creates that stands is refused before anything else is done for them; nobody else is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select

from api.generations import outlook
from api.limits.door import WAITING, Undecided
from api.services import Services
from api.store.schema import generations
from autoscaling.backlog import Backlog, Capacity, ModelBacklog, Work
from tests.api.conftest import MakePlatform
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
    text = (await client.get("/metrics")).text
    assert f'tutti_http_requests_total{{method="POST",route="{path}",status="503"}} 1.0' in text

    services.limits.undecided.leave(waiting[0])
    assert (await client.post(path, json=BODY)).is_success


@pytest.mark.parametrize("path", CREATES)
async def test_the_door_knows_a_create_by_its_version_in_accept(
    client: httpx2.AsyncClient, services: Services, path: str
) -> None:
    await stand(services.limits.undecided)
    short = path.removeprefix("/api/v1")
    refused = await client.post(short, json=BODY, headers={"Accept": "application/vnd.tutti.v1+json"})
    assert (refused.status_code, refused.headers["x-error-code"]) == (503, "system_overloaded")


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


# ---------------------------------------------------------------------------------- what is known already
def full(models: dict[str, float], services: Services) -> Backlog:
    """Model → seconds of work that its only worker has before it."""
    one = Capacity(1, 100.0)
    return Backlog(
        services.clock(), {name: ModelBacklog(one, Work(100.0 * wait_s, 1, 1)) for name, wait_s in models.items()}
    )


@pytest.fixture
def remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was seen of the backlog stays fresh."""
    monkeypatch.setattr(outlook, "MAX_AGE", outlook.MAX_AGE * 100_000)


@pytest.fixture
def sees_no_create(app: FastAPI, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes through the door to the route finds out."""

    async def create(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a create came to its route")

    monkeypatch.setattr(type(services.generations), "create", create)


@pytest.mark.usefixtures("remembers", "sees_no_create")
@pytest.mark.parametrize("path", CREATES)
async def test_what_would_surely_be_refused_is_refused_at_the_door(
    client: httpx2.AsyncClient, services: Services, path: str
) -> None:
    assert (await client.get("/api/v1/user/profile")).status_code == 200  # from here on the account is known
    services.limits.backlogs.seen(full({"tiny": 1e6}, services))
    refused = await client.post(path, content=b"not even read")
    assert (refused.status_code, refused.headers["x-error-code"]) == (503, "system_overloaded")
    assert refused.json()["error"]["details"]["estimated_wait_s"] == pytest.approx(1e6, rel=0.01)
    text = (await client.get("/metrics")).text
    assert f'tutti_http_requests_total{{method="POST",route="{path}",status="503"}} 1.0' in text


@pytest.mark.usefixtures("remembers", "sees_no_create")
async def test_what_is_not_sure_goes_in(client: httpx2.AsyncClient, services: Services) -> None:
    """An account that nobody has seen lately, a key that may be a repetition, a credential that may not create."""
    services.limits.backlogs.seen(full({"tiny": 1e6}, services))
    assert (await client.post(CREATES[0], json=BODY)).status_code == 500
    assert (await client.post(CREATES[0], json=BODY)).status_code == 503  # now it was seen
    assert (await client.post(CREATES[0], json=BODY, headers={"Idempotency-Key": "k"})).status_code == 500
    services.accounts._authenticator.forget()
    assert (await client.post(CREATES[0], json=BODY)).status_code == 500
    stranger = await client.post(CREATES[0], json=BODY, headers={"Authorization": "Bearer nobody-knows-this-key"})
    assert stranger.status_code == 401


@pytest.mark.usefixtures("remembers")
async def test_another_model_has_room(make_platform: MakePlatform) -> None:
    platform = await make_platform(FakeGenerator(), FakeGenerator())
    client = await platform.connect(host="127.0.0.1", base_url="http://localhost")
    assert (await client.get("/api/v1/user/profile")).status_code == 200
    platform.services.limits.backlogs.seen(full({"tiny": 1e6, "small": 0.0}, platform.services))
    assert (await client.post(CREATES[0], json={**BODY, "model": "tiny"})).status_code == 503
    assert (await client.post(CREATES[0], json={**BODY, "model": "small"})).status_code == 202
