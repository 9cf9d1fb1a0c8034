"""Test events: sent at once, never repeated, one at a time."""

from __future__ import annotations

import asyncio

import pytest

from api.errors import ApiError, ErrorCode
from api.webhooks.deliverer import Deliverer
from api.webhooks.service import WebhookService
from tests.api.webhooks.calls import only, register
from tests.api.webhooks.conftest import ManualClock
from tests.api.webhooks.receiver import Received, Receiver, answer


async def test_a_test_is_sent_at_once_and_tells_what_came_of_it(
    service: WebhookService, account: str, deliverer: Deliverer, receiver: Receiver
) -> None:
    endpoint = (await register(service, account, receiver.url()))["id"]
    receiver.default = answer(201, b"hello")
    shown = await service.log.test(account, endpoint)
    assert (shown["event_type"], shown["state"], shown["body"]["data"]["webhook_id"]) == (
        "webhook.test",
        "delivered",
        endpoint,
    )
    (attempt,) = shown["log"]
    assert (attempt["status"], attempt["response_excerpt"]) == (201, "hello")
    assert receiver.requests[0].headers["webhook-id"] == shown["event_id"]
    assert await deliverer.deliver_due() == 0


@pytest.mark.parametrize("status", [500, 410])
async def test_a_test_that_fails_is_not_repeated_and_does_not_switch_the_endpoint_off(
    service: WebhookService, account: str, deliverer: Deliverer, receiver: Receiver, clock: ManualClock, status: int
) -> None:
    endpoint = (await register(service, account, receiver.url()))["id"]
    receiver.default = answer(status)
    shown = await service.log.test(account, endpoint)
    assert (shown["state"], shown["log"][0]["error"]) == ("failed", f"answered {status}")
    clock.advance(days=6)
    assert await deliverer.deliver_due() == 0
    assert (await service.log.test(account, endpoint))["state"] == "failed"
    after = await service.endpoints.get(account, endpoint)
    assert (after["enabled"], after["failing_since"]) == (True, None)


async def test_one_test_of_an_endpoint_at_a_time(
    service: WebhookService, account: str, receiver: Receiver, clock: ManualClock, deliverer: Deliverer
) -> None:
    endpoint = (await register(service, account, receiver.url()))["id"]
    opened = asyncio.Event()

    async def wait(_request: Received, writer: asyncio.StreamWriter) -> None:
        await opened.wait()
        writer.write(b"HTTP/1.1 204 X\r\n\r\n")

    receiver.behaviours = [wait]
    first = asyncio.create_task(service.log.test(account, endpoint))
    await receiver.until(1)
    with pytest.raises(ApiError) as raised:
        await service.log.test(account, endpoint)
    assert raised.value.code == ErrorCode.WEBHOOK_CONFLICT
    opened.set()
    assert (await first)["state"] == "delivered"
    assert (await service.log.test(account, endpoint))["state"] == "delivered"


async def test_a_test_whose_process_died_is_finished_by_a_worker(
    service: WebhookService, account: str, receiver: Receiver, clock: ManualClock, deliverer: Deliverer
) -> None:
    endpoint = (await register(service, account, receiver.url()))["id"]

    async def wait(_request: Received, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    receiver.behaviours = [wait]
    dying = asyncio.create_task(service.log.test(account, endpoint))
    await receiver.until(1)
    dying.cancel()
    await asyncio.wait([dying])
    assert await deliverer.deliver_due() == 0
    clock.advance(seconds=61)
    assert await deliverer.deliver_due() == 1
    assert (await only(service, account))["state"] == "delivered"
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1


async def test_an_endpoint_that_is_switched_off_can_be_tested(
    service: WebhookService, account: str, receiver: Receiver
) -> None:
    endpoint = (await register(service, account, receiver.url()))["id"]
    await service.endpoints.update(account, endpoint, {"enabled": False})
    assert (await service.log.test(account, endpoint))["state"] == "delivered"
    assert not (await service.endpoints.get(account, endpoint))["enabled"]
