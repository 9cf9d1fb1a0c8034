"""From an event to what receivers get: expansion, signatures, retries, rotation."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, select
from standardwebhooks import Webhook, WebhookVerificationError
from structlog.testing import LogCapture

from api.ids import new_id
from api.settings import Settings
from api.store.database import Database
from api.store.schema import webhook_deliveries
from api.webhooks.deliverer import Deliverer
from api.webhooks.schedule import JITTER, MAX_ATTEMPTS, WAITS_S
from api.webhooks.service import WebhookService
from tests.api.limits.rows import add_account
from tests.api.webhooks.calls import listed, register
from tests.api.webhooks.conftest import Events, ManualClock, logger_of, make_service
from tests.api.webhooks.receiver import Received, Receiver, answer


def verified(request: Received, secret: str) -> dict[str, Any]:
    event: dict[str, Any] = Webhook(secret).verify(request.body, request.headers)
    return event


# ---------------------------------------------------------------------------------------- expansion
async def test_an_event_reaches_those_who_ask_for_it_signed_each_with_its_own_secret(
    service: WebhookService, account: str, database: Database, events: Events, deliverer: Deliverer, receiver: Receiver
) -> None:
    everything = await register(service, account, receiver.url("/everything"))
    failures = await register(service, account, receiver.url("/failures"), "generation.failed")
    off = await register(service, account, receiver.url("/off"))
    await service.endpoints.update(account, off["id"], {"enabled": False})
    other = await add_account(database, new_id("acc"))
    await register(service, other, receiver.url("/other"))

    event = await events.end(account, "failed", webhook_url=receiver.url("/own"))
    assert await deliverer.deliver_due() == 3

    got = {request.path: request for request in receiver.requests}
    own = await service.endpoints.signing_secret(account)
    secrets = {"/everything": everything["secret"], "/failures": failures["secret"], "/own": own["secret"]}
    assert got.keys() == secrets.keys()
    for path, secret in secrets.items():
        told = verified(got[path], secret)
        assert told["type"] == "generation.failed"
        assert told["data"] == {"id": event["generation_id"], "state": "failed"}
        assert got[path].headers["webhook-id"] == event["event_id"]
    assert len({request.body for request in receiver.requests}) == 1
    assert await listed(service, other) == []


async def test_nobody_is_told_what_he_did_not_ask_for(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver
) -> None:
    await register(service, account, receiver.url(), "generation.failed", "generation.expired")
    for state in ("succeeded", "cancelled", "expired"):
        await events.end(account, state)
    await deliverer.deliver_due()
    assert [json.loads(request.body)["type"] for request in receiver.requests] == ["generation.expired"]


async def test_an_event_handled_twice_is_delivered_once_to_each_address(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver
) -> None:
    await register(service, account, receiver.url("/a"))
    event = await events.end(account, webhook_url=receiver.url("/b"))
    await deliverer.deliver_due()
    await events.handler(event)
    await deliverer.deliver_due()
    assert sorted(request.path for request in receiver.requests) == ["/a", "/b"]


async def test_an_endpoint_that_is_also_the_generations_own_address_gets_one_delivery(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver
) -> None:
    endpoint = await register(service, account, receiver.url())
    await events.end(account, webhook_url=receiver.url())
    await deliverer.deliver_due()
    (request,) = receiver.requests
    assert verified(request, endpoint["secret"])["type"] == "generation.succeeded"


async def test_an_erased_generation_tells_nobody(
    service: WebhookService, account: str, database: Database, events: Events, receiver: Receiver
) -> None:
    await register(service, account, receiver.url())
    await events.handler(
        {"event_id": new_id("evt"), "type": "generation.failed", "account_id": account, "generation_id": "gen_gone"}
    )
    async with database.read() as conn:
        assert (await conn.execute(select(func.count()).select_from(webhook_deliveries))).scalar_one() == 0


# ------------------------------------------------------------------------------------------- retries
async def test_ten_attempts_with_one_id_and_one_body_and_then_it_failed(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver, clock: ManualClock
) -> None:
    await register(service, account, receiver.url())
    receiver.default = answer(500, b"broken")
    event = await events.end(account)
    for wait_s in WAITS_S:
        assert await deliverer.deliver_due() == 1
        assert await deliverer.deliver_due() == 0
        clock.advance(seconds=wait_s * (1 - JITTER) - 0.001)
        assert await deliverer.deliver_due() == 0
        clock.advance(seconds=2 * wait_s * JITTER + 0.002)
    assert await deliverer.deliver_due() == 1
    clock.advance(days=30)
    assert await deliverer.deliver_due() == 0

    assert len(receiver.requests) == MAX_ATTEMPTS
    assert {request.headers["webhook-id"] for request in receiver.requests} == {event["event_id"]}
    assert len({request.body for request in receiver.requests}) == 1
    assert len({request.headers["webhook-timestamp"] for request in receiver.requests}) == MAX_ATTEMPTS
    (delivery,) = await listed(service, account)
    assert (delivery["state"], delivery["attempts"], delivery["next_attempt_at"]) == ("failed", MAX_ATTEMPTS, None)
    log = await service.log.attempts(account, delivery["id"])
    assert [entry["number"] for entry in log] == list(range(1, MAX_ATTEMPTS + 1))
    assert {(entry["status"], entry["error"], entry["response_excerpt"]) for entry in log} == {
        (500, "answered 500", "broken")
    }


async def test_a_receiver_that_comes_back_is_told(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver, clock: ManualClock
) -> None:
    endpoint = await register(service, account, receiver.url())
    receiver.behaviours = [answer(500), answer(404)]
    await events.end(account)
    for _ in range(5):
        await deliverer.deliver_due()
        clock.advance(hours=1)
    (delivery,) = await listed(service, account)
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 3)
    assert [e["status"] for e in await service.log.attempts(account, delivery["id"])] == [500, 404, 204]
    assert (await service.endpoints.get(account, endpoint["id"]))["failing_since"] is None


@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_that_asks_for_time_gets_it(
    service: WebhookService,
    account: str,
    events: Events,
    deliverer: Deliverer,
    receiver: Receiver,
    clock: ManualClock,
    status: int,
) -> None:
    await register(service, account, receiver.url())
    receiver.behaviours = [answer(status, retry_after="600")]
    await events.end(account)
    await deliverer.deliver_due()
    clock.advance(seconds=599)
    assert await deliverer.deliver_due() == 0
    clock.advance(seconds=1)
    assert await deliverer.deliver_due() == 1


async def test_a_private_address_is_not_called_although_it_was_stored(
    database: Database, service: WebhookService, account: str, events: Events, receiver: Receiver, clock: ManualClock
) -> None:
    """Stored while a setting allowed it; the setting is gone."""
    await register(service, account, receiver.url())
    await events.end(account)
    strict = make_service(database, clock, Settings())
    await strict.deliverer(logger_of(LogCapture())).deliver_due()
    assert receiver.requests == []
    (delivery,) = await listed(strict, account)
    (attempt,) = await strict.log.attempts(account, delivery["id"])
    assert delivery["state"] == "pending"
    assert attempt["error"].startswith("not sent: the url must start with https")


async def test_a_secret_that_can_not_be_opened_is_an_attempt_that_failed(
    database: Database,
    service: WebhookService,
    account: str,
    events: Events,
    receiver: Receiver,
    clock: ManualClock,
    settings: Settings,
) -> None:
    await register(service, account, receiver.url())
    await events.end(account)
    without_key = make_service(database, clock, settings, master=b"\1" * 32)
    await without_key.deliverer(logger_of(LogCapture())).deliver_due()
    (delivery,) = await listed(service, account)
    (attempt,) = await service.log.attempts(account, delivery["id"])
    assert attempt["error"] == "not sent: the signing secret can not be opened"
    assert receiver.requests == []


# -------------------------------------------------------------------------------------------- rotation
async def test_both_secrets_sign_for_24_hours_and_then_only_the_new_one(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver, clock: ManualClock
) -> None:
    endpoint = await register(service, account, receiver.url("/endpoint"))
    before = {"/endpoint": endpoint["secret"], "/own": (await service.endpoints.signing_secret(account))["secret"]}
    rotated = await service.endpoints.rotate(account, endpoint["id"])
    after = {
        "/endpoint": rotated["secret"],
        "/own": (await service.endpoints.signing_secret(account, rotate=True))["secret"],
    }
    assert len({*before.values(), *after.values()}) == 4
    await events.end(account, webhook_url=receiver.url("/own"))
    await deliverer.deliver_due()
    for request in receiver.requests:
        assert verified(request, before[request.path]) == verified(request, after[request.path])

    assert rotated["previous_secret_until"] is not None
    clock.advance(hours=24)
    assert (await service.endpoints.get(account, endpoint["id"]))["previous_secret_until"] is None
    receiver.requests.clear()
    await events.end(account, webhook_url=receiver.url("/own"))
    await deliverer.deliver_due()
    assert len(receiver.requests) == 2
    for request in receiver.requests:
        assert len(request.headers["webhook-signature"].split()) == 1
        # The reference looks at the real time: sign with it in place of verifying.
        at = int(request.headers["webhook-timestamp"])
        signed = _signed(after[request.path], request, at)
        assert request.headers["webhook-signature"] == signed


async def test_a_stranger_can_not_verify(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver
) -> None:
    endpoint = await register(service, account, receiver.url())
    await events.end(account)
    await deliverer.deliver_due()
    stranger = await service.endpoints.signing_secret(account)
    with pytest.raises(WebhookVerificationError):
        verified(receiver.requests[0], stranger["secret"])
    assert verified(receiver.requests[0], endpoint["secret"])


def _signed(secret: str, request: Received, at: int) -> str:
    return Webhook(secret).sign(request.headers["webhook-id"], datetime.fromtimestamp(at, UTC), request.body.decode())
