"""The routes, over HTTP: shapes, statuses, who may call them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from standardwebhooks import Webhook
from starlette.requests import HTTPConnection
from structlog.testing import LogCapture

from api import handlers
from api.auth.policy import policies
from api.auth.principal import Principal, Role, Scope
from api.clock import utc_now
from api.errors import ApiError, ErrorCode
from api.ids import new_id
from api.middleware import RequestContext
from api.routes import webhooks
from api.store.database import Database
from api.telemetry.compose import make_telemetry
from api.webhooks.deliverer import Deliverer
from api.webhooks.events import EventType
from api.webhooks.service import WebhookService
from tests.api.limits.rows import add_account
from tests.api.webhooks.conftest import Events, ManualClock, logger_of
from tests.api.webhooks.receiver import Receiver, answer

BASE = "/api/v1/webhooks"
BOTH = "webhooks:read webhooks:write"


class Accounts:
    """Takes the account and the scopes from two headers."""

    async def authenticate(self, connection: HTTPConnection) -> Principal:
        account = connection.headers.get("x-account")
        if account is None:
            raise ApiError(ErrorCode.UNAUTHENTICATED)
        scopes = frozenset(Scope(name) for name in connection.headers.get("x-scopes", BOTH).split())
        return Principal(account, Role.USER, "free", scopes, "token")


@pytest.fixture
def app(service: WebhookService, log: LogCapture) -> FastAPI:
    made = FastAPI(webhooks=webhooks.sent, docs_url=None, redoc_url=None)
    services: Any = SimpleNamespace(
        accounts=Accounts(),
        webhooks=service,
        log=logger_of(log),
        telemetry=make_telemetry("ingress", utc_now),
    )
    made.state.services = services
    handlers.install(made)
    made.include_router(webhooks.router)
    made.add_middleware(RequestContext, services=services)
    return made


@pytest.fixture
async def client(app: FastAPI, account: str) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://tutti", headers={"X-Account": account}
    ) as connected:
        yield connected


def code(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def create(client: httpx2.AsyncClient, url: str, **fields: Any) -> dict[str, Any]:
    response = await client.post(BASE, json={"url": url, **fields})
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


async def test_the_whole_life_of_a_webhook(
    client: httpx2.AsyncClient,
    account: str,
    events: Events,
    deliverer: Deliverer,
    receiver: Receiver,
    clock: ManualClock,
) -> None:
    response = await client.post(
        BASE, json={"url": receiver.url(), "events": ["generation.failed"], "description": "d"}
    )
    created = response.json()
    assert response.headers["location"] == f"{BASE}/{created['id']}"
    assert response.headers["cache-control"] == "no-store"
    here = f"{BASE}/{created['id']}"

    shown = (await client.get(here)).json()
    assert shown == {name: value for name, value in created.items() if name != "secret"}
    assert (await client.get(BASE)).json() == {"data": [shown]}
    assert (await client.patch(here, json={"events": ["*"]})).json()["events"] == ["*"]

    tested = (await client.post(f"{here}/test")).json()
    assert (tested["state"], tested["log"][0]["status"]) == ("delivered", 204)

    clock.advance(seconds=1)
    receiver.behaviours = [answer(500, b"no")]
    await events.end(account)
    await deliverer.deliver_due()
    page = (await client.get(f"{BASE}/deliveries", params={"webhook_id": created["id"], "limit": 1})).json()
    (delivery,) = page["data"]
    assert page["next_cursor"] is not None
    following = (await client.get(f"{BASE}/deliveries", params={"cursor": page["next_cursor"]})).json()
    assert [d["event_type"] for d in following["data"]] == ["webhook.test"]
    assert following["next_cursor"] is None
    details = (await client.get(f"{BASE}/deliveries/{delivery['id']}")).json()
    assert details["body"]["type"] == "generation.succeeded"
    attempts = (await client.get(f"{BASE}/deliveries/{delivery['id']}/attempts")).json()
    assert attempts == {"data": details["log"]}

    rotated = await client.post(f"{here}/rotate")
    assert rotated.json()["secret"] != created["secret"]
    assert rotated.headers["cache-control"] == "no-store"
    replayed = await client.post(f"{BASE}/deliveries/{delivery['id']}/replay")
    assert (replayed.status_code, replayed.json()["state"]) == (202, "pending")
    await deliverer.deliver_due()
    last = receiver.requests[-1]
    for secret in (created["secret"], rotated.json()["secret"]):
        assert Webhook(secret).verify(last.body, last.headers) == details["body"]

    assert (await client.delete(here)).status_code == 204
    assert code(await client.get(here)) == (404, "webhook_not_found")


async def test_the_accounts_signing_secret(client: httpx2.AsyncClient) -> None:
    first = await client.get(f"{BASE}/signing-secret")
    assert first.json()["secret"].startswith("whsec_")
    assert first.headers["cache-control"] == "no-store"
    assert (await client.get(f"{BASE}/signing-secret")).json() == first.json()
    rotated = await client.post(f"{BASE}/signing-secret/rotate")
    assert rotated.json()["secret"] != first.json()["secret"]
    assert rotated.json()["previous_secret_until"] is not None
    assert rotated.headers["cache-control"] == "no-store"


async def test_creating_with_an_idempotency_key(client: httpx2.AsyncClient, receiver: Receiver) -> None:
    headers = {"Idempotency-Key": "one"}
    first = await client.post(BASE, json={"url": receiver.url()}, headers=headers)
    again = await client.post(BASE, json={"url": receiver.url()}, headers=headers)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    other = await client.post(BASE, json={"url": receiver.url("/other")}, headers=headers)
    assert code(other) == (422, "idempotency_key_reused")
    assert code(await client.post(BASE, json={"url": receiver.url()}, headers={"Idempotency-Key": "a b"})) == (
        422,
        "invalid_parameter",
    )


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "url"),
        ({"url": 5}, "url"),
        ({"url": ""}, "url"),
        ({"url": "https://a.example/" + "x" * 2000}, "url"),
        ({"url": "https://a.example/", "events": []}, "events"),
        ({"url": "https://a.example/", "events": ["generation.started"]}, "events"),
        ({"url": "https://a.example/", "events": "*"}, "events"),
        ({"url": "https://a.example/", "events": ["*"] * 21}, "events"),
        ({"url": "https://a.example/", "description": "x" * 501}, "description"),
        ({"url": "https://a.example/", "description": "a\nb"}, "description"),
        ({"url": "https://a.example/", "description": "\0"}, "description"),
        ({"url": "https://a.example/", "description": "\ud800"}, "description"),
        ({"url": "https://a.example/", "secret": "whsec_mine"}, "secret"),
        ({"url": "https://a.example/", "enabled": False}, "enabled"),
    ],
)
async def test_bodies_that_are_refused(client: httpx2.AsyncClient, body: dict[str, Any], param: str) -> None:
    response = await client.post(BASE, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert code(response) == (422, "invalid_parameter")
    assert response.json()["error"]["param"].startswith(param)


@pytest.mark.parametrize("body", [{"enabled": "yes"}, {"url": ""}, {"events": []}, {"unknown": 1}, {"secret": "x"}])
async def test_changes_that_are_refused(client: httpx2.AsyncClient, receiver: Receiver, body: dict[str, Any]) -> None:
    created = await create(client, receiver.url())
    assert code(await client.patch(f"{BASE}/{created['id']}", json=body)) == (422, "invalid_parameter")


async def test_a_hostile_address_is_refused_with_its_own_code(client: httpx2.AsyncClient) -> None:
    response = await client.post(BASE, json={"url": "https://169.254.169.254/latest/meta-data/"})
    assert code(response) == (422, "webhook_url_refused")
    assert response.json()["error"]["param"] == "url"


@pytest.mark.parametrize(
    "query",
    [{"limit": "0"}, {"limit": "101"}, {"state": "lost"}, {"cursor": "x"}, {"webhook_id": "\0"}, {"event_type": "A"}],
)
async def test_queries_that_are_refused(client: httpx2.AsyncClient, query: dict[str, str]) -> None:
    assert code(await client.get(f"{BASE}/deliveries", params=query)) == (422, "invalid_parameter")


def routes(webhook_id: str, delivery_id: str) -> list[tuple[str, str, bool]]:
    """Method, path, and whether it only reads."""
    return [
        ("POST", "", False),
        ("GET", "", True),
        ("GET", "/signing-secret", False),
        ("POST", "/signing-secret/rotate", False),
        ("GET", "/deliveries", True),
        ("GET", f"/deliveries/{delivery_id}", True),
        ("GET", f"/deliveries/{delivery_id}/attempts", True),
        ("POST", f"/deliveries/{delivery_id}/replay", False),
        ("GET", f"/{webhook_id}", True),
        ("PATCH", f"/{webhook_id}", False),
        ("POST", f"/{webhook_id}/rotate", False),
        ("POST", f"/{webhook_id}/test", False),
        ("DELETE", f"/{webhook_id}", False),
    ]


async def test_who_may_call_what(
    client: httpx2.AsyncClient, app: FastAPI, account: str, database: Database, events: Events, receiver: Receiver
) -> None:
    created = await create(client, receiver.url())
    await events.end(account)
    (delivery,) = (await client.get(f"{BASE}/deliveries")).json()["data"]
    other = await add_account(database, new_id("acc"))
    table = routes(created["id"], delivery["id"])
    assert len(table) == len([path for _, path in policies(app) if path.startswith(BASE)])
    for method, path, reads in table:
        body = (
            {"url": receiver.url("/x")} if method in ("POST", "PATCH") and path in ("", f"/{created['id']}") else None
        )

        async def call(method: str = method, path: str = path, body: Any = body, **headers: str) -> httpx2.Response:
            return await client.request(method, BASE + path, json=body, headers=headers)

        del client.headers["x-account"]
        assert code(await call()) == (401, "unauthenticated"), path
        client.headers["x-account"] = account
        wrong = "webhooks:write" if reads else "webhooks:read"
        assert code(await call(**{"x-scopes": wrong})) == (403, "permission_denied"), path
        if created["id"] in path or delivery["id"] in path:
            assert code(await call(**{"x-account": other})) == (404, "webhook_not_found"), path
    assert (await client.get(f"{BASE}/{created['id']}")).json()["url"] == receiver.url()


def test_the_document_tells_what_is_sent(app: FastAPI) -> None:
    assert app.openapi()["webhooks"].keys() == {event.value for event in EventType}
