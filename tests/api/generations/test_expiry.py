"""How long a generation waits: as long as it was promised to wait at most, whoever holds it in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from api.auth.principal import Principal
from api.generations import retries, states
from api.generations.housekeeping import Housekeeping
from api.generations.states import Change, Lease
from api.generations.view import Mode, State
from models.errors import EngineOverloadedError
from tests.api.fakes import FakeGenerator
from tests.api.generations.conftest import Bench, MakeBench, ManualClock
from tests.api.streams.stage import Stage

ERROR = {"code": "replica_lost", "message": "gone"}


@dataclass
class Queue:
    """One generation on its way into a worker's hands and back."""

    bench: Bench
    clock: ManualClock
    owner: Principal
    id: str

    async def start(self, lease_s: float = 1000.0) -> Lease | None:
        account, now = self.owner.account_id, self.clock()
        async with self.bench.db.begin() as conn:
            return await states.start(conn, self.id, account, "wrk_1", now, charge_s=1.0, lease_s=lease_s)

    async def back(self, lease: Lease | None, *, wait_s: float = 0.0, counts: bool = True) -> None:
        assert lease is not None
        error = ERROR if counts or wait_s else None
        async with self.bench.db.begin() as conn:
            done = await states.requeue(conn, lease, error, self.clock(), wait_s=wait_s, counts=counts)
        assert done is not None

    async def patience_s(self) -> float:
        """Seconds that it may still wait."""
        expires_at = (await self.bench.row(self.id))["expires_at"]
        return float((expires_at - self.clock()).total_seconds())


@pytest.fixture(params=["async", "stream"])
async def queue(make_bench: MakeBench, manual_clock: ManualClock, request: pytest.FixtureRequest) -> Queue:
    bench = make_bench(manual_clock)
    owner = await bench.account()
    mode: Mode = request.param
    return Queue(bench, manual_clock, owner, (await bench.create(owner, mode=mode)).id)


async def test_a_full_engine_does_not_make_it_wait_longer(queue: Queue) -> None:
    """It is asked again and again, and every pause is time that passes."""
    patience_s = await queue.patience_s()
    waited_s = 0.0
    while (lease := await queue.start()) is not None:
        await queue.back(lease, wait_s=5.0, counts=False)
        queue.clock.forward(5.0)
        waited_s += 5.0
    assert waited_s == patience_s
    async with queue.bench.db.begin() as conn:
        change = await states.expire(conn, queue.id, queue.owner.account_id, queue.clock())
    assert change is not None
    assert change.state == State.EXPIRED
    assert await queue.bench.used(queue.owner) == 0


async def test_time_in_a_workers_hands_is_no_waiting(queue: Queue) -> None:
    """A worker that dies late, or stops, costs nothing of it; it does not begin anew either."""
    queue.clock.forward(10.0)
    patience_s = await queue.patience_s()
    for counts in (True, False, True, False):
        lease = await queue.start()
        queue.clock.forward(500.0)
        await queue.back(lease, counts=counts)
        assert await queue.patience_s() == patience_s
        queue.clock.forward(7.0)
        patience_s -= 7.0


async def test_a_pause_after_a_failure_is_no_waiting(queue: Queue) -> None:
    patience_s = await queue.patience_s()
    for attempt in range(1, 4):
        await queue.back(await queue.start(), wait_s=retries.backoff_s(attempt))
        queue.clock.forward(retries.backoff_s(attempt))
        assert await queue.patience_s() == patience_s


async def test_a_worker_that_is_not_heard_of_takes_none_of_it(queue: Queue) -> None:
    patience_s = await queue.patience_s()
    await queue.start(lease_s=10.0)
    queue.clock.forward(25.0)
    async with queue.bench.db.begin() as conn:
        args = (queue.id, queue.owner.account_id, ERROR, queue.clock())
        assert await states.reap(conn, *args, refund_s=1.0, retry=True, wait_s=0.0)
    assert await queue.patience_s() == patience_s


async def test_who_looks_ends_what_has_waited_too_long(queue: Queue) -> None:
    """No worker is there to do it."""
    queue.clock.forward(await queue.patience_s() - 0.001)
    assert (await queue.bench.service.get(queue.owner, queue.id)).state == State.QUEUED
    queue.clock.forward(0.001)
    for _ in range(2):
        view = await queue.bench.service.get(queue.owner, queue.id)
        assert (view.state, view.version) == (State.EXPIRED, 2)
    assert await queue.bench.used(queue.owner) == 0
    assert await queue.bench.events(queue.id) == ["generation.expired"]


async def test_what_a_lost_worker_was_charged_with_is_given_back(
    make_bench: MakeBench, manual_clock: ManualClock
) -> None:
    """In the tier in which it was charged: the account has moved to another since it asked."""
    bench = make_bench(manual_clock)
    told: list[Change] = []

    async def tell(change: Change) -> None:
        told.append(change)

    owner = await bench.account("pro")
    made = await bench.create(owner)
    rules = bench.limits.tiers.rules
    async with bench.db.begin() as conn:
        await conn.exec_driver_sql("UPDATE accounts SET tier = 'free'")
        charge_s = rules["free"].charge_s(made.duration_s)
        await states.start(conn, made.id, owner.account_id, "wrk_1", manual_clock(), charge_s=charge_s)
    manual_clock.forward(11.0)
    assert await Housekeeping(bench.db, rules, manual_clock, tell, bench.log).sweep() == 1
    assert [change.state for change in told] == [State.QUEUED]
    assert (await bench.account_row(owner))["virtual_s"] == pytest.approx(0.0)


# -------------------------------------------------------------------------------------- as a client sees it
async def test_a_stream_that_no_worker_takes_is_told_so(make_stage: Callable[..., Awaitable[Stage]]) -> None:
    stage = await make_stage(FakeGenerator(), stream_queue_expiry_s=1.0)
    async with stage.client() as client:
        answer = await client.post("/api/v1/generate/stream", json={"prompt": "a tune", "duration": 1.0})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "generation_expired")


async def test_a_stream_that_no_engine_takes_is_told_so(make_stage: Callable[..., Awaitable[Stage]]) -> None:
    generator = FakeGenerator(errors={0: EngineOverloadedError("full", 0.1)})
    stage = await make_stage(generator, stream_queue_expiry_s=1.0)
    async with stage.working(), stage.client() as client:
        answer = await client.post("/api/v1/generate/stream", json={"prompt": "a tune", "duration": 1.0})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "generation_expired")
    assert generator.started > 1
