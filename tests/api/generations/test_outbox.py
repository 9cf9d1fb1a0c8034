"""The outbox: at least once, by whoever is there, for as long as it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import func, select

from api.generations import outbox
from api.generations.outbox import OutboxRelay
from api.store.schema import outbox as table
from tests.api.generations.conftest import Bench, MakeBench, ManualClock


@dataclass
class Handler:
    """Writes down what it was asked to do."""

    errors: list[Exception] = field(default_factory=list)
    seen: list[Any] = field(default_factory=list)
    again: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, payload: Mapping[str, Any]) -> None:
        self.seen.append(payload["n"])
        self.again.set()
        if self.errors:
            raise self.errors.pop(0)


async def put(bench: Bench, *numbers: int, kind: str = "webhook.event") -> None:
    async with bench.db.begin() as conn:
        for number in numbers:
            await outbox.put(conn, kind, {"n": number}, bench.clock())


async def left(bench: Bench) -> int:
    async with bench.db.read() as conn:
        return int((await conn.execute(select(func.count()).select_from(table))).scalar_one())


def relay(bench: Bench, handler: Any) -> OutboxRelay:
    return OutboxRelay(bench.db, {"webhook.event": handler}, bench.clock, bench.log)


@pytest.fixture
def still(make_bench: MakeBench, manual_clock: ManualClock) -> Bench:
    return make_bench(manual_clock)


async def test_what_was_put_is_done_once_and_gone(still: Bench) -> None:
    handler = Handler()
    await put(still, 1, 2, 3)
    one = relay(still, handler)
    assert await one.relay_once() == 3
    assert (sorted(handler.seen), await left(still), await one.relay_once()) == ([1, 2, 3], 0, 0)


async def test_what_was_rolled_back_is_not_done(still: Bench) -> None:
    handler = Handler()

    async def fail() -> None:
        async with still.db.begin() as conn:
            await outbox.put(conn, "webhook.event", {"n": 1}, still.clock())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await relay(still, handler).relay_once() == 0


async def test_kinds_without_a_handler_are_left_for_others(still: Bench) -> None:
    await put(still, 1, kind="object.delete")
    assert await relay(still, Handler()).relay_once() == 0
    assert await left(still) == 1


async def test_what_fails_is_kept_and_tried_ever_later(still: Bench, manual_clock: ManualClock) -> None:
    handler = Handler(errors=[RuntimeError("no"), OSError("no"), ValueError("no")])
    await put(still, 1)
    one = relay(still, handler)
    for wait_s in (1.0, 2.0, 5.0):
        assert await one.relay_once() == 1
        manual_clock.forward(wait_s - 0.1)
        assert await one.relay_once() == 0
        manual_clock.forward(0.1)
    assert await one.relay_once() == 1
    assert (handler.seen, await left(still)) == ([1] * 4, 0)


async def test_one_failure_does_not_hold_up_the_others(still: Bench) -> None:
    handler = Handler(errors=[RuntimeError("no")])
    await put(still, 1, 2)
    await relay(still, handler).relay_once()
    assert (sorted(handler.seen), await left(still)) == ([1, 2], 1)


async def test_a_relay_that_dies_is_followed_by_another(still: Bench, manual_clock: ManualClock) -> None:
    started = asyncio.Event()

    async def hangs(payload: Mapping[str, Any]) -> None:
        started.set()
        await asyncio.Event().wait()

    await put(still, 1)
    dying = asyncio.create_task(relay(still, hangs).relay_once())
    await started.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    handler = Handler()
    assert await relay(still, handler).relay_once() == 0
    manual_clock.forward(outbox.LEASE_S)
    assert await relay(still, handler).relay_once() == 1
    assert handler.seen == [1]


async def test_two_at_once_share_the_work(bench: Bench) -> None:
    handler = Handler()
    await put(bench, *range(50))
    await asyncio.gather(*(relay(bench, handler).relay_once() for _ in range(4)))
    assert sorted(handler.seen) == list(range(50))


async def test_it_runs_until_it_is_stopped(bench: Bench) -> None:
    handler = Handler(errors=[RuntimeError("once")])
    one = relay(bench, handler)
    running = asyncio.create_task(one.run())
    await put(bench, 1)
    one.wake()
    await handler.again.wait()
    handler.again.clear()
    await put(bench, 2)
    one.wake()
    await handler.again.wait()
    await one.stop()
    await running
    assert set(handler.seen) == {1, 2}
