"""What a client is told of a generation that is to be tried again."""

from __future__ import annotations

import pytest

from api.generations import leases, states
from api.generations.view import State
from tests.api.generations.conftest import Bench, MakeBench, ManualClock

CAPACITY = {"tiny": {"slots": 4, "steps_per_s": 200.0}}
ERROR = {"code": "replica_lost", "message": "gone"}


async def report(bench: Bench) -> None:
    async with bench.db.begin() as conn:
        await leases.report(conn, "wrk_1", bench.clock(), bench.clock(), CAPACITY)


async def test_the_pause_before_another_attempt_is_part_of_the_wait(
    make_bench: MakeBench, manual_clock: ManualClock
) -> None:
    bench = make_bench(manual_clock)
    owner = await bench.account()
    await report(bench)
    made = await bench.create(owner)
    run_s = made.eta_s
    assert run_s is not None
    async with bench.db.begin() as conn:
        lease = await states.start(conn, made.id, owner.account_id, "wrk_1", manual_clock(), charge_s=1.0)
        assert lease is not None
        await states.requeue(conn, lease, ERROR, manual_clock(), wait_s=8.0)
    manual_clock.forward(1.0)  # past what was read of the backlog
    for passed_s, left_s in ((1.0, 7.0), (4.0, 4.0), (8.0, 0.0), (9.0, 0.0)):
        manual_clock.forward(passed_s - (manual_clock() - made.created_at).total_seconds())
        await report(bench)
        view = await bench.look(made.id)
        assert view.state == State.QUEUED
        assert view.eta_s == pytest.approx(left_s + run_s)
