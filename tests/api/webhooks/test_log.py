"""The delivery log: pages, filters, replays."""

from __future__ import annotations

import base64
import json

import pytest

from api.errors import ApiError, ErrorCode
from api.ids import new_id
from api.store.database import Database
from api.webhooks.deliverer import Deliverer
from api.webhooks.log import Filters
from api.webhooks.service import WebhookService
from tests.api.limits.rows import add_account
from tests.api.webhooks.calls import listed, only, register
from tests.api.webhooks.conftest import Events, ManualClock
from tests.api.webhooks.receiver import Receiver, answer


# ---------------------------------------------------------------------------------------------- reading
async def test_pages_show_everything_once_although_more_comes_meanwhile(
    service: WebhookService, account: str, events: Events, receiver: Receiver, clock: ManualClock
) -> None:
    await register(service, account, receiver.url("/a"))
    await register(service, account, receiver.url("/b"))
    for i in range(5):
        await events.end(account)  # two deliveries of one moment each
        clock.advance(seconds=i % 2)
    expected = [delivery["id"] for delivery in await listed(service, account)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page, cursor = await service.log.page(account, Filters(), 3, cursor)
        seen += [delivery["id"] for delivery in page]
        clock.advance(seconds=1)
        await events.end(account)
        if cursor is None:
            break
    assert seen == expected
    assert len(set(seen)) == 10


async def test_filters(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver
) -> None:
    endpoint = (await register(service, account, receiver.url("/a")))["id"]
    first = await events.end(account, "failed", webhook_url=receiver.url("/own"))
    await deliverer.deliver_due()
    second = await events.end(account)
    assert len(await listed(service, account)) == 3
    assert len(await listed(service, account, webhook_id=endpoint)) == 2
    assert len(await listed(service, account, event_id=first["event_id"])) == 2
    assert [d["event_id"] for d in await listed(service, account, state="pending")] == [second["event_id"]]
    assert len(await listed(service, account, event_type="generation.failed", state="delivered")) == 2
    assert await listed(service, account, webhook_id=new_id("whe")) == []


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "", "x", "ü", "%%%", "\0", encoded("yesterday whd_" + "0" * 24), encoded("2026-01-01T00:00:00 whd_" + "0" * 24),
        encoded("2026-01-01T00:00:00+00:00"), encoded("2026-01-01T00:00:00+00:00 whd_\0"),
        encoded("0001-01-01T00:00:00+14:00 whd_" + "0" * 24),
    ],
)  # fmt: skip
async def test_a_cursor_of_somewhere_else(service: WebhookService, account: str, cursor: str) -> None:
    with pytest.raises(ApiError) as raised:
        await service.log.page(account, Filters(), 10, cursor)
    assert (raised.value.code, raised.value.param) == (ErrorCode.INVALID_PARAMETER, "cursor")


async def test_a_delivery_is_shown_with_its_body_and_attempts_to_its_account_only(
    service: WebhookService,
    account: str,
    database: Database,
    events: Events,
    deliverer: Deliverer,
    receiver: Receiver,
    clock: ManualClock,
) -> None:
    endpoint = (await register(service, account, receiver.url()))["id"]
    receiver.behaviours = [answer(503, b"busy"), answer(200, b"ok")]
    event = await events.end(account)
    began = clock.now
    await deliverer.deliver_due()
    clock.advance(minutes=1)
    await deliverer.deliver_due()
    delivery = await only(service, account)
    shown = await service.log.get(account, delivery["id"])
    assert shown["body"] == json.loads(receiver.requests[0].body)
    assert (shown["webhook_id"], shown["event_id"], shown["url"]) == (endpoint, event["event_id"], receiver.url())
    assert [(e["number"], e["status"], e["response_excerpt"]) for e in shown["log"]] == [
        (1, 503, "busy"),
        (2, 200, "ok"),
    ]
    assert [e["at"] for e in shown["log"]] == [began, clock.now]
    assert all(e["duration_ms"] > 0 for e in shown["log"])
    assert (shown["state"], shown["finished_at"], shown["next_attempt_at"]) == ("delivered", clock.now, None)

    other = await add_account(database, new_id("acc"))
    for attempt in (
        service.log.get(other, delivery["id"]),
        service.log.attempts(other, delivery["id"]),
        service.log.replay(other, delivery["id"]),
    ):
        with pytest.raises(ApiError) as raised:
            await attempt
        assert raised.value.code == ErrorCode.WEBHOOK_NOT_FOUND
    assert await listed(service, other) == []


# ---------------------------------------------------------------------------------------------- replays
async def test_a_replay_sends_the_same_again_and_its_attempts_count_on(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver, clock: ManualClock
) -> None:
    await register(service, account, receiver.url())
    event = await events.end(account)
    await deliverer.deliver_due()
    delivery = await only(service, account)
    clock.advance(days=3)
    replayed = await service.log.replay(account, delivery["id"])
    assert (replayed["state"], replayed["attempts"], replayed["finished_at"]) == ("pending", 0, None)
    await deliverer.deliver_due()
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == event["event_id"]
    assert first.body == second.body
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) == 3 * 86_400
    shown = await service.log.get(account, delivery["id"])
    assert (shown["state"], shown["attempts"], [e["number"] for e in shown["log"]]) == ("delivered", 1, [1, 2])


async def test_what_failed_for_good_can_be_replayed_with_all_its_attempts(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver, clock: ManualClock
) -> None:
    receiver.default = answer(500)
    await events.end(account, webhook_url=receiver.url())
    for _ in range(10):
        await deliverer.deliver_due()
        clock.advance(hours=27)
    delivery = await only(service, account)
    assert delivery["state"] == "failed"
    await service.log.replay(account, delivery["id"])
    await deliverer.deliver_due()
    delivery = await only(service, account)
    assert (delivery["state"], delivery["attempts"]) == ("pending", 1)
    assert len(receiver.requests) == 11


async def test_what_waits_for_its_next_attempt_can_be_sent_now(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver
) -> None:
    await register(service, account, receiver.url())
    receiver.behaviours = [answer(500)]
    await events.end(account)
    await deliverer.deliver_due()
    await service.log.replay(account, (await only(service, account))["id"])
    await deliverer.deliver_due()
    assert (await only(service, account))["state"] == "delivered"


async def test_nothing_is_replayed_to_an_endpoint_that_is_switched_off(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver
) -> None:
    endpoint = (await register(service, account, receiver.url()))["id"]
    await events.end(account)
    await service.endpoints.update(account, endpoint, {"enabled": False})
    delivery = await only(service, account)
    with pytest.raises(ApiError) as raised:
        await service.log.replay(account, delivery["id"])
    assert raised.value.code == ErrorCode.WEBHOOK_CONFLICT
    await service.endpoints.update(account, endpoint, {"enabled": True})
    await service.log.replay(account, delivery["id"])
    await deliverer.deliver_due()
    assert len(receiver.requests) == 1
