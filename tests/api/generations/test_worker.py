"""A worker over real databases, a real Valkey and real storage: a generation's life, and cancels at every state."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import select

from api.generations import states
from api.generations.view import State
from api.store.schema import workers
from models.errors import (
    ReplicaLostError,
)
from tests.api.fakes import sine
from tests.api.generations.conftest import QUICK, Bench, eventually


async def test_a_generation_is_made_stored_and_told(bench: Bench) -> None:
    owner = await bench.account()
    made = await bench.create(owner, num_tracks=3, seed=5, duration_s=1.5)
    async with bench.working() as worker:
        view = await bench.until(made.id)
    assert view.state == State.SUCCEEDED
    assert view.version == 3
    assert (view.attempt, view.error) == (1, None)
    assert view.real_time_factor is not None
    assert view.real_time_factor > 0
    assert view.first_audio_at is not None
    assert [track.seed for track in view.tracks] == [5, 6, 7]
    for track in view.tracks:
        expected = sine(track.seed, 48_000)
        assert (track.sample_rate, track.channels, track.total_samples) == (32_000, 1, 48_000)
        assert track.sha256 == hashlib.sha256(expected.tobytes()).hexdigest()
        np.testing.assert_array_equal(await bench.audio.read(track, 0, 48_000), expected)
    assert await bench.events(made.id) == ["generation.succeeded"]
    assert await bench.used(owner) == 1
    assert worker.running == 0


async def test_the_generator_is_asked_for_what_was_wished(bench: Bench) -> None:
    made = await bench.create(await bench.account(), num_tracks=2, seed=2**63 - 1, prompt="a waltz", duration_s=2.0)
    async with bench.working():
        await bench.until(made.id)
    assert [(each.prompt, each.duration_s, each.seed) for each in bench.tiny.requests] == [
        ("a waltz", 2.0, 2**63 - 1),
        ("a waltz", 2.0, 0),
    ]
    assert len({each.request_id for each in bench.tiny.requests}) == 2


async def test_each_model_has_its_backend(bench: Bench) -> None:
    owner = await bench.account()
    ids = [(await bench.create(owner, model_id=name)).id for name in ("tiny", "small")]
    async with bench.working():
        views = [await bench.until(each) for each in ids]
    assert [view.tracks[0].channels for view in views] == [1, 2]


async def test_no_more_tracks_run_at_once_than_there_are_slots(bench: Bench) -> None:
    bench.slots = {"tiny": 3}
    bench.tiny.hold(0)
    owner = await bench.account()
    made = [await bench.create(owner) for _ in range(4)]
    async with bench.working():
        await eventually(lambda: bench.tiny.started == 3)
        seen = [(await bench.look(each.id)).state for each in made]
        assert sorted(seen) == [State.QUEUED, *[State.RUNNING] * 3]
        bench.tiny.gates[0].set()


async def test_a_streamed_generation_goes_first_within_its_account(bench: Bench) -> None:
    bench.slots = {"tiny": 1}
    owner = await bench.account()
    slow = [await bench.create(owner, prompt=f"later {i}") for i in range(2)]
    live = await bench.create(owner, mode="stream", prompt="now")
    async with bench.working():
        for each in (*slow, live):
            await bench.until(each.id)
    assert bench.tiny.requests[0].prompt == "now"
    # The engine lets those wait whom nobody hears.
    assert [each.live for each in bench.tiny.requests] == [each.prompt == "now" for each in bench.tiny.requests]


async def test_an_account_runs_no_more_at_once_than_its_tier_allows(bench: Bench) -> None:
    gate = bench.tiny.hold(0)
    owner = await bench.account("free")
    first, second = await bench.create(owner), await bench.create(owner)
    async with bench.working():
        await bench.until(first.id, State.RUNNING)
        await bench.reached(0)
        assert (await bench.look(second.id)).state == State.QUEUED
        gate.set()
        assert (await bench.until(second.id)).state == State.SUCCEEDED


# ------------------------------------------------------------------------------------------------ cancel
async def test_cancelled_in_the_queue(bench: Bench) -> None:
    owner = await bench.account()
    made = await bench.create(owner)
    assert (await bench.service.cancel(owner, made.id)).state == State.CANCELLED
    async with bench.working():
        last = await bench.create(owner)
        await bench.until(last.id)
    assert len(bench.tiny.requests) == 1
    assert await bench.events(made.id) == ["generation.cancelled"]


@pytest.mark.parametrize("index", [0, 2])
async def test_cancelled_while_it_runs(bench: Bench, index: int) -> None:
    """Before the first chunk, and in the middle: the generators are closed before the row says cancelled."""
    bench.tiny.hold(index)
    owner = await bench.account()
    made = await bench.create(owner, num_tracks=2)
    async with bench.working() as worker:
        await bench.reached(index)
        assert (await bench.service.cancel(owner, made.id)).state in (State.CANCELLING, State.CANCELLED)
        view = await bench.until(made.id)
        assert view.state == State.CANCELLED
        assert bench.tiny.closed == 2
        assert await bench.events(made.id) == ["generation.cancelled"]
    assert worker.running == 0
    assert await bench.used(owner) == 1


async def test_a_cancel_without_a_doorbell_is_seen_by_the_heartbeat(bench: Bench) -> None:
    bench.tiny.hold(1)
    owner = await bench.account()
    made = await bench.create(owner)
    async with bench.working():
        await bench.reached(1)
        async with bench.db.begin() as conn:
            await states.request_cancel(conn, made.id, owner.account_id, bench.clock())
        assert (await bench.until(made.id)).state == State.CANCELLED


async def test_cancelled_between_two_attempts(bench: Bench) -> None:
    bench.tiny.errors[0] = ReplicaLostError("gone")
    owner = await bench.account()
    made = await bench.create(owner)
    async with bench.working():
        await bench.until_version(made.id, 3)
        view = await bench.service.cancel(owner, made.id)
        assert (await bench.until(made.id)).state == State.CANCELLED
    assert view.state in (State.CANCELLED, State.CANCELLING)


async def test_a_cancel_after_the_end_changes_nothing(bench: Bench) -> None:
    owner = await bench.account()
    made = await bench.create(owner)
    async with bench.working():
        done = await bench.until(made.id)
    assert await bench.service.cancel(owner, made.id) == done


# ---------------------------------------------------------------------------------------- expiry and stop
async def test_one_that_waits_too_long_expires(bench: Bench) -> None:
    owner = await bench.account()
    bench.slots = {"small": 8}  # nobody serves its model
    made = await bench.create(owner)
    await bench.expire_now(made.id)
    async with bench.working():
        view = await bench.until(made.id)
    assert view.state == State.EXPIRED
    assert await bench.used(owner) == 0
    assert await bench.events(made.id) == ["generation.expired"]


async def test_a_worker_that_stops_lets_what_runs_end(bench: Bench) -> None:
    gate = bench.tiny.hold(1)
    owner = await bench.account()
    running, waiting = await bench.create(owner), await bench.create(owner)
    bench.slots = {"tiny": 1}
    async with bench.working() as worker:
        await bench.reached(1)
        await worker.stop()
        gate.set()
    seen = [(await bench.look(each.id)).state for each in (running, waiting)]
    assert sorted(seen) == [State.QUEUED, State.SUCCEEDED]


async def test_what_does_not_end_in_time_is_given_back_and_costs_no_attempt(bench: Bench) -> None:
    bench.tiny.hold(1)
    made = await bench.create(await bench.account())
    async with bench.working(timing=replace(QUICK, drain_s=0.05)):
        await bench.reached(1)
    view = await bench.look(made.id)
    assert (view.state, view.attempt, view.error) == (State.QUEUED, 0, None)
    assert bench.tiny.closed == 1
    bench.tiny.gates.clear()
    async with bench.working():
        assert (await bench.until(made.id)).attempt == 1


async def test_a_worker_says_what_it_can_do_and_signs_off(bench: Bench) -> None:
    async def rows() -> list[dict[str, dict[str, float | None]]]:
        async with bench.db.read() as conn:
            return list((await conn.execute(select(workers.c.capacity))).scalars())

    async def measured() -> bool:
        return any(capacity["tiny"]["steps_per_s"] for capacity in await rows())

    made = await bench.create(await bench.account())
    async with bench.working(timing=replace(QUICK, report_s=0.05)):
        await bench.until(made.id)
        await eventually(measured)
        (found,) = await rows()
        assert found["tiny"]["slots"] == 8
        assert found["small"]["steps_per_s"] is None
    assert await rows() == []
