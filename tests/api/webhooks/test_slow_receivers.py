"""One slow receiver, or an account full of them, holds up nobody else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from api.ids import new_id
from api.settings import Settings
from api.store.database import Database
from api.webhooks.deliverer import Deliverer
from api.webhooks.leases import Candidate, Share, choose
from api.webhooks.service import WebhookService
from tests.api.limits.rows import add_account
from tests.api.webhooks.calls import Gate, at_work, register
from tests.api.webhooks.conftest import Events
from tests.api.webhooks.receiver import Receiver, receiving

MakeDeliverer = Callable[[], Deliverer]


async def test_a_slow_receiver_holds_up_nobody_else(
    service: WebhookService, account: str, database: Database, events: Events, deliverer: Deliverer, receiver: Receiver
) -> None:
    """Forty deliveries to a receiver that hangs; the account's other endpoint and another account are told at once."""
    gate = Gate()
    receiver.default = gate
    await register(service, account, receiver.url())
    for _ in range(40):
        await events.end(account)
    other = await add_account(database, new_id("acc"))
    async with receiving() as fast, at_work(deliverer):
        await receiver.until(4)
        await register(service, account, fast.url("/same-account"))
        await register(service, other, fast.url("/other-account"))
        for _ in range(5):
            await events.end(account)
            await events.end(other)
        deliverer.wake()
        await fast.until(10)
        assert Counter(request.path for request in fast.requests) == {"/same-account": 5, "/other-account": 5}
        assert len(receiver.requests) == 4
        gate.opened.set()


@pytest.mark.parametrize(
    "settings", [Settings(webhook_allow_http=True, webhook_allow_private=True, webhook_concurrency=4)]
)
async def test_an_account_of_slow_receivers_leaves_half_of_the_places_to_others(
    service: WebhookService, account: str, database: Database, events: Events, deliverer: Deliverer, receiver: Receiver
) -> None:
    gate = Gate()
    receiver.default = gate
    for name in range(5):
        await register(service, account, receiver.url(f"/{name}"))
    for _ in range(3):
        await events.end(account)
    other = await add_account(database, new_id("acc"))
    async with receiving() as fast, at_work(deliverer):
        await receiver.until(2)
        await register(service, other, fast.url())
        for _ in range(5):
            await events.end(other)
        deliverer.wake()
        await fast.until(5)
        assert len(receiver.requests) == 2
        gate.opened.set()


def test_choosing_is_in_order_within_the_shares() -> None:
    due = [
        Candidate(f"d{i}", account, lane)
        for i, (account, lane) in enumerate([("a", "x")] * 3 + [("a", "y"), ("b", "z")])
    ]
    flying = [Candidate("f", "a", "x")]
    assert choose(due, flying, Share(lane=2, account=10), 10) == ["d0", "d3", "d4"]
    assert choose(due, flying, Share(lane=10, account=2), 10) == ["d0", "d4"]
    assert choose(due, flying, Share(lane=10, account=10), 2) == ["d0", "d1"]
    assert choose(due, flying, Share(lane=1, account=1), 10) == ["d4"]
    assert choose(due, flying, Share(lane=10, account=10), 0) == []
