"""Workers: crashes, lost leases, several at once, slow receivers, a database that is away."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
from structlog import DropEvent
from structlog.testing import LogCapture
from structlog.typing import EventDict

from api.settings import Settings
from api.store.database import Database
from api.webhooks.deliverer import Deliverer
from api.webhooks.service import WebhookService
from tests.api.webhooks.calls import Gate, at_work, listed, register, states
from tests.api.webhooks.conftest import Events, ManualClock, logger_of, make_service
from tests.api.webhooks.receiver import TIMEOUT_S, Receiver, receiving

MakeDeliverer = Callable[[], Deliverer]


@dataclass(frozen=True, slots=True)
class Held:
    """One delivery is due, and its receiver answers the first request when the gate is opened.

    Attributes:
        event: what the outbox was told.
    """

    service: WebhookService
    account: str
    gate: Gate
    endpoint_id: str
    event: dict[str, str]

    async def delivery(self) -> dict[str, Any]:
        """As the log has it."""
        (found,) = await listed(self.service, self.account)
        return found


@pytest.fixture
async def held(service: WebhookService, account: str, events: Events, receiver: Receiver) -> Held:
    gate = Gate()
    receiver.behaviours = [gate]
    endpoint = await register(service, account, receiver.url())
    return Held(service, account, gate, endpoint["id"], await events.end(account))


# --------------------------------------------------------------------------------------------- crashes
async def test_a_crash_between_sending_and_writing_down_sends_again_with_the_same_id(
    held: Held, make_deliverer: MakeDeliverer, receiver: Receiver, clock: ManualClock
) -> None:
    crashing = asyncio.create_task(make_deliverer().run())
    await receiver.until(1)
    crashing.cancel()
    await asyncio.wait([crashing])

    # The lease is still there: nobody else sends it before it runs out.
    second = make_deliverer()
    assert await second.deliver_due() == 0
    clock.advance(seconds=61)
    assert await second.deliver_due() == 1

    assert [request.headers["webhook-id"] for request in receiver.requests] == [held.event["event_id"]] * 2
    assert receiver.requests[0].body == receiver.requests[1].body
    delivery = await held.delivery()
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 1)


async def test_a_worker_that_lost_its_lease_writes_nothing(
    held: Held, make_deliverer: MakeDeliverer, receiver: Receiver, clock: ManualClock, log: LogCapture
) -> None:
    async with at_work(make_deliverer()):
        await receiver.until(1)
        clock.advance(seconds=61)
        assert await make_deliverer().deliver_due() == 1
        held.gate.opened.set()
    written = [entry["recorded"] for entry in log.entries if entry["event"] == "webhook_attempt"]
    assert sorted(written) == [False, True]
    delivery = await held.delivery()
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 1)
    assert len(await held.service.log.attempts(held.account, delivery["id"])) == 1


async def test_an_endpoint_deleted_while_its_delivery_is_under_way(
    held: Held, deliverer: Deliverer, receiver: Receiver
) -> None:
    async with at_work(deliverer):
        await receiver.until(1)
        await held.service.endpoints.delete(held.account, held.endpoint_id)
        held.gate.opened.set()
    assert await states(held.service, held.account) == []


async def test_an_endpoint_switched_off_while_its_delivery_is_under_way_is_not_tried_again(
    held: Held, make_deliverer: MakeDeliverer, receiver: Receiver, clock: ManualClock
) -> None:
    crashing = asyncio.create_task(make_deliverer().run())
    await receiver.until(1)
    await held.service.endpoints.update(held.account, held.endpoint_id, {"enabled": False})
    assert await states(held.service, held.account) == ["pending"]
    crashing.cancel()
    await asyncio.wait([crashing])
    clock.advance(seconds=61)
    assert await make_deliverer().deliver_due() == 1
    assert await states(held.service, held.account) == ["failed"]
    assert len(receiver.requests) == 1


async def test_stopping_finishes_what_is_under_way(held: Held, deliverer: Deliverer, receiver: Receiver) -> None:
    async with at_work(deliverer) as running:
        await receiver.until(1)
        await deliverer.stop()
        assert not running.done()
        held.gate.opened.set()
    assert await states(held.service, held.account) == ["delivered"]


# ------------------------------------------------------------------------------------- several workers
async def test_several_workers_send_everything_once(
    service: WebhookService, account: str, events: Events, make_deliverer: MakeDeliverer, receiver: Receiver
) -> None:
    for name in range(3):
        await register(service, account, receiver.url(f"/{name}"))
    for _ in range(8):
        await events.end(account)
    sent = await asyncio.gather(*(make_deliverer().deliver_due() for _ in range(4)))
    assert sum(sent) == 24
    assert set(Counter((r.headers["webhook-id"], r.path) for r in receiver.requests).values()) == {1}
    assert await states(service, account) == ["delivered"] * 24


async def test_the_limit_of_an_endpoint_holds_over_all_workers(
    service: WebhookService, account: str, events: Events, make_deliverer: MakeDeliverer, receiver: Receiver
) -> None:
    await register(service, account, receiver.url())
    for _ in range(12):
        await events.end(account)
    gate = Gate()
    receiver.default = gate
    async with at_work(make_deliverer()), at_work(make_deliverer()), at_work(make_deliverer()), receiving() as fast:
        await receiver.until(4)
        # All that is due elsewhere is done meanwhile: so everybody has looked, and nobody took a fifth.
        other = (await register(service, account, fast.url()))["id"]
        for _ in range(6):
            await service.endpoints.update(account, other, {"enabled": True})
            await events.end(account)
        await fast.until(6)
        assert len(receiver.requests) == 4
        gate.opened.set()
        await receiver.until(18)


# --------------------------------------------------------------------------------------- the rest of it
async def test_a_database_that_is_away_is_waited_for(tmp_path: Path, clock: ManualClock, settings: Settings) -> None:
    heard = asyncio.Event()

    def listen(_logger: object, _method: str, entry: EventDict) -> NoReturn:
        assert entry["event"] == "webhooks_wait_for_the_database"
        heard.set()
        raise DropEvent

    database = Database.connect(f"sqlite+aiosqlite:///{tmp_path / 'missing' / 'tutti.db'}")
    deliverer = make_service(database, clock, settings).deliverer(logger_of(listen))
    async with at_work(deliverer) as running, asyncio.timeout(TIMEOUT_S):
        await heard.wait()
        assert not running.done()
    assert running.exception() is None
    await database.close()


async def test_a_finished_delivery_leaves_the_log_after_thirty_days_and_a_pending_one_never(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver, clock: ManualClock
) -> None:
    await register(service, account, receiver.url())
    await events.end(account)
    await deliverer.deliver_due()
    clock.advance(days=29)
    await events.end(account)
    assert await deliverer.prune() == 0
    clock.advance(days=2)
    assert await deliverer.prune() == 1
    assert await states(service, account) == ["pending"]


async def test_no_url_is_logged(
    service: WebhookService, account: str, events: Events, deliverer: Deliverer, receiver: Receiver, log: LogCapture
) -> None:
    await register(service, account, receiver.url("/hook?token=hush"))
    await events.end(account)
    await deliverer.deliver_due()
    (entry,) = log.entries
    assert (entry["delivered"], entry["status"], entry["attempt"]) == (True, 204, 1)
    assert "hush" not in str(entry)
