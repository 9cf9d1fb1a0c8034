"""What switches an endpoint off: 410, and five days of nothing but failures."""

from __future__ import annotations

from api.webhooks.deliverer import Deliverer
from api.webhooks.service import WebhookService
from tests.api.webhooks.calls import listed, register
from tests.api.webhooks.conftest import Events, ManualClock
from tests.api.webhooks.receiver import Receiver, answer


async def test_410_switches_the_endpoint_off_and_ends_what_waits_for_it(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver, clock: ManualClock
) -> None:
    endpoint = await register(service, account, receiver.url("/gone"))
    receiver.behaviours = [answer(500), answer(410)]
    await events.end(account)
    await deliverer.deliver_due()
    await events.end(account)
    assert await deliverer.deliver_due() == 1
    clock.advance(days=1)
    await events.end(account)
    assert await deliverer.deliver_due() == 0

    shown = await service.endpoints.get(account, endpoint["id"])
    assert not shown["enabled"]
    assert "410" in shown["disabled_reason"]
    assert [d["state"] for d in await listed(service, account)] == ["failed", "failed"]
    assert len(receiver.requests) == 2


async def test_410_of_a_generations_own_address_ends_that_delivery_only(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver, clock: ManualClock
) -> None:
    receiver.default = answer(410)
    for _ in range(2):
        await events.end(account, webhook_url=receiver.url())
        await deliverer.deliver_due()
    clock.advance(days=1)
    assert await deliverer.deliver_due() == 0
    assert [d["state"] for d in await listed(service, account)] == ["failed", "failed"]
    assert len(receiver.requests) == 2


async def test_five_days_of_nothing_but_failures_switch_an_endpoint_off(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver, clock: ManualClock
) -> None:
    endpoint = await register(service, account, receiver.url())
    receiver.default = answer(500)
    for hours in (0, 60, 119):
        await events.end(account)
        await deliverer.deliver_due()
        assert (await service.endpoints.get(account, endpoint["id"]))["enabled"], hours
        clock.advance(hours={0: 60, 60: 59, 119: 2}[hours])
    await events.end(account)
    await deliverer.deliver_due()
    shown = await service.endpoints.get(account, endpoint["id"])
    assert not shown["enabled"]
    assert "answered 500" in shown["disabled_reason"]
    assert {d["state"] for d in await listed(service, account)} == {"failed"}

    await service.endpoints.update(account, endpoint["id"], {"enabled": True})
    await events.end(account)
    await deliverer.deliver_due()
    shown = await service.endpoints.get(account, endpoint["id"])
    assert (shown["enabled"], shown["disabled_reason"], shown["failing_since"]) == (True, None, clock.now)


async def test_one_success_begins_the_five_days_anew(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver, clock: ManualClock
) -> None:
    endpoint = await register(service, account, receiver.url())
    for day, status in enumerate([500, 500, 500, 500, 200, 500, 500, 500, 500, 500]):
        receiver.behaviours = [answer(status)]
        receiver.default = answer(status)
        await events.end(account)
        await deliverer.deliver_due()
        assert (await service.endpoints.get(account, endpoint["id"]))["enabled"], day
        clock.advance(days=1)
