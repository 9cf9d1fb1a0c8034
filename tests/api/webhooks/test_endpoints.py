"""Endpoints of an account: making, changing, losing them."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from api.errors import ApiError, ErrorCode
from api.ids import new_id
from api.settings import Settings
from api.store.database import Database
from api.store.schema import idempotency_keys, webhook_endpoints, webhook_signing_secrets
from api.webhooks.deliverer import Deliverer
from api.webhooks.endpoints import MAX_ENDPOINTS
from api.webhooks.log import Filters
from api.webhooks.service import WebhookService
from tests.api.limits.rows import add_account
from tests.api.webhooks.conftest import HOST, Events, ManualClock, make_service
from tests.api.webhooks.receiver import Receiver, answer

URL = "http://127.0.0.1:9/hook"


async def register(service: WebhookService, account: str, url: str = URL, key: str | None = None) -> dict[str, Any]:
    created, _ = await service.endpoints.create(account, url, ["*"], "mine", key)
    return created


async def refused(code: ErrorCode, awaitable: Any) -> ApiError:
    with pytest.raises(ApiError) as raised:
        await awaitable
    assert raised.value.code == code
    return raised.value


async def test_a_secret_is_shown_at_creation_and_never_again_and_is_stored_sealed(
    service: WebhookService, account: str, database: Database, clock: ManualClock
) -> None:
    created = await register(service, account)
    raw = base64.b64decode(created["secret"].removeprefix("whsec_"))
    shown = await service.endpoints.get(account, created["id"])
    assert shown == {
        "id": created["id"],
        "url": URL,
        "description": "mine",
        "events": ["*"],
        "enabled": True,
        "disabled_reason": None,
        "failing_since": None,
        "previous_secret_until": None,
        "created_at": clock.now,
    }
    assert await service.endpoints.list(account) == [shown]
    await service.endpoints.signing_secret(account)
    async with database.read() as conn:
        stored = (await conn.execute(select(webhook_endpoints.c.secret))).scalar_one()
        own = (await conn.execute(select(webhook_signing_secrets.c.secret))).scalar_one()
    for sealed in (stored, own):
        assert raw not in sealed
        assert b"whsec_" not in sealed


async def test_what_belongs_to_others_is_not_found(service: WebhookService, account: str, database: Database) -> None:
    other = await add_account(database, new_id("acc"))
    mine = (await register(service, account))["id"]
    for attempt in (
        service.endpoints.get(other, mine),
        service.endpoints.update(other, mine, {"enabled": False}),
        service.endpoints.delete(other, mine),
        service.endpoints.rotate(other, mine),
        service.log.test(other, mine),
    ):
        await refused(ErrorCode.WEBHOOK_NOT_FOUND, attempt)
    assert await service.endpoints.list(other) == []
    assert (await service.endpoints.get(account, mine))["enabled"]


@pytest.mark.parametrize("odd", ["", "x", "whe_", "whe_\0", "whe_" + "0" * 24, "%", "whe_' OR 1=1", "0" * 5000])
async def test_what_names_nothing_is_not_found(service: WebhookService, account: str, odd: str) -> None:
    await refused(ErrorCode.WEBHOOK_NOT_FOUND, service.endpoints.get(account, odd))
    await refused(ErrorCode.WEBHOOK_NOT_FOUND, service.log.get(account, odd))


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/", f"https://{HOST}/", "https://u@x.example/", "ftp://x.example/"]
)
async def test_addresses_that_are_refused(service: WebhookService, account: str, url: str) -> None:
    error = await refused(ErrorCode.WEBHOOK_URL_REFUSED, register(service, account, url))
    assert error.param == "url"
    assert error.message.startswith("url must ")
    error = await refused(ErrorCode.WEBHOOK_URL_REFUSED, service.check_url(url))
    assert error.param == "webhook_url"
    created = await register(service, account)
    await refused(ErrorCode.WEBHOOK_URL_REFUSED, service.endpoints.update(account, created["id"], {"url": url}))


async def test_loopback_is_refused_without_the_setting(database: Database, account: str, clock: ManualClock) -> None:
    await refused(ErrorCode.WEBHOOK_URL_REFUSED, register(make_service(database, clock, Settings()), account))


async def test_one_endpoint_per_address(service: WebhookService, account: str, database: Database) -> None:
    await register(service, account, "http://127.0.0.1:80/x")
    error = await refused(ErrorCode.WEBHOOK_CONFLICT, register(service, account, "HTTP://127.0.0.1/x"))
    assert error.param == "url"
    second = await register(service, account)
    await refused(
        ErrorCode.WEBHOOK_CONFLICT, service.endpoints.update(account, second["id"], {"url": "http://127.0.0.1/x"})
    )
    other = await add_account(database, new_id("acc"))
    await register(service, other, "http://127.0.0.1/x")


async def test_no_more_than_so_many_endpoints_not_even_at_once(service: WebhookService, account: str) -> None:
    calls = (register(service, account, f"{URL}/{i}") for i in range(MAX_ENDPOINTS + 4))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    full = [outcome for outcome in outcomes if isinstance(outcome, ApiError)]
    assert [error.code for error in full] == [ErrorCode.LIMIT_REACHED] * 4
    assert len(await service.endpoints.list(account)) == MAX_ENDPOINTS


# -------------------------------------------------------------------------------------------- idempotency
async def test_a_repeated_call_gets_the_first_answer_secret_and_all(
    service: WebhookService, account: str, database: Database
) -> None:
    first, replayed = await service.endpoints.create(account, URL, ["*"], "", "key-1")
    assert not replayed
    again, replayed = await service.endpoints.create(account, URL, ["*"], "", "key-1")
    assert (again, replayed) == (first, True)
    assert len(await service.endpoints.list(account)) == 1
    async with database.read() as conn:
        stored = (await conn.execute(select(idempotency_keys.c.response_body))).scalar_one()
    assert first["secret"] not in str(stored)


async def test_a_key_is_for_one_payload(service: WebhookService, account: str) -> None:
    await register(service, account, key="key-1")
    await refused(ErrorCode.IDEMPOTENCY_KEY_REUSED, register(service, account, f"{URL}/other", key="key-1"))


async def test_a_refusal_is_not_kept(service: WebhookService, account: str) -> None:
    taken = await register(service, account)
    await refused(ErrorCode.WEBHOOK_CONFLICT, register(service, account, key="key-1"))
    await service.endpoints.delete(account, taken["id"])
    assert (await register(service, account, key="key-1"))["id"] != taken["id"]


# ------------------------------------------------------------------------------------------------ changes
async def test_changing_one_thing_leaves_the_others(service: WebhookService, account: str) -> None:
    created = await register(service, account)
    changed = await service.endpoints.update(account, created["id"], {"events": ["generation.failed"]})
    assert (changed["events"], changed["url"], changed["description"]) == (["generation.failed"], URL, "mine")
    assert await service.endpoints.update(account, created["id"], {}) == changed
    assert (await service.endpoints.update(account, created["id"], {"url": URL}))["url"] == URL


async def test_pending_deliveries_follow_a_new_address(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver, clock: ManualClock
) -> None:
    created = await register(service, account, receiver.url("/old"))
    receiver.behaviours = [answer(500)]
    await events.end(account)
    await deliverer.deliver_due()
    await service.endpoints.update(account, created["id"], {"url": receiver.url("/new")})
    clock.advance(minutes=1)
    await deliverer.deliver_due()
    assert [request.path for request in receiver.requests] == ["/old", "/new"]


async def test_a_new_address_that_was_told_already_is_not_told_again(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver, clock: ManualClock
) -> None:
    created = await register(service, account, receiver.url("/old"))
    receiver.default = answer(500)
    await events.end(account, webhook_url=receiver.url("/own"))
    await deliverer.deliver_due()
    receiver.default = answer(204)
    await service.endpoints.update(account, created["id"], {"url": receiver.url("/own")})
    clock.advance(minutes=1)
    await deliverer.deliver_due()
    assert sorted(request.path for request in receiver.requests) == ["/old", "/own", "/own"]
    page, _ = await service.log.page(account, Filters(), 10, None)
    assert sorted(delivery["state"] for delivery in page) == ["delivered", "failed"]


async def test_switching_off_ends_what_is_pending_and_switching_on_begins_anew(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver, clock: ManualClock
) -> None:
    created = await register(service, account, receiver.url())
    await events.end(account)
    await service.endpoints.update(account, created["id"], {"enabled": False})
    await events.end(account)
    await service.endpoints.update(account, created["id"], {"enabled": True})
    await events.end(account)
    await deliverer.deliver_due()
    assert len(receiver.requests) == 1
    page, _ = await service.log.page(account, Filters(), 10, None)
    assert sorted(delivery["state"] for delivery in page) == ["delivered", "failed"]


async def test_deleting_takes_the_deliveries_along(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver
) -> None:
    created = await register(service, account, receiver.url())
    await events.end(account)
    await service.endpoints.delete(account, created["id"])
    assert await deliverer.deliver_due() == 0
    await refused(ErrorCode.WEBHOOK_NOT_FOUND, service.endpoints.get(account, created["id"]))
    await refused(ErrorCode.WEBHOOK_NOT_FOUND, service.endpoints.delete(account, created["id"]))


# ----------------------------------------------------------------------------------------------- secrets
async def test_the_accounts_secret_is_made_once_even_when_asked_for_twice_at_once(
    service: WebhookService, account: str, clock: ManualClock
) -> None:
    both = await asyncio.gather(*(service.endpoints.signing_secret(account) for _ in range(4)))
    assert len({answered["secret"] for answered in both}) == 1
    rotated = await service.endpoints.signing_secret(account, rotate=True)
    assert rotated["secret"] != both[0]["secret"]
    assert rotated["previous_secret_until"] == clock.now + timedelta(hours=24)
    assert (await service.endpoints.signing_secret(account))["secret"] == rotated["secret"]


async def test_every_account_has_its_own(service: WebhookService, account: str, database: Database) -> None:
    other = await add_account(database, new_id("acc"))
    mine = await service.endpoints.signing_secret(account, rotate=True)
    theirs = await service.endpoints.signing_secret(other)
    assert mine["secret"] != theirs["secret"]
    assert theirs["previous_secret_until"] is None
