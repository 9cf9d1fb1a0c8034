"""A worker whose generators fail: what is tried again, how often, and what its owner is told."""

from __future__ import annotations

import hashlib

import pytest

from api.generations.view import State
from models.errors import (
    CheckpointError,
    EngineDeadError,
    EngineOverloadedError,
    GenerationFailedError,
    InvalidRequestError,
    ReplicaLostError,
)
from tests.api.fakes import FakeGenerator, sine
from tests.api.generations.conftest import Bench, eventually


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ReplicaLostError("gone"), "replica_lost"),
        (EngineDeadError("dead"), "model_unavailable"),
        (CheckpointError("broken"), "model_unavailable"),
        (RuntimeError("a bug"), "internal_error"),
    ],
)
async def test_infrastructure_is_tried_four_times(bench: Bench, no_backoff: None, error: Exception, code: str) -> None:
    owner = await bench.account()
    bench.tiny.errors[1] = error
    made = await bench.create(owner)
    async with bench.working():
        view = await bench.until(made.id)
    assert (view.state, view.attempt, bench.tiny.started) == (State.FAILED, 4, 4)
    assert view.error is not None
    assert view.error["code"] == code
    assert "a bug" not in view.error["message"].split()
    assert await bench.events(made.id) == ["generation.failed"]
    assert await bench.used(owner) == 0


async def test_a_failure_inside_the_engine_is_tried_twice(bench: Bench, no_backoff: None) -> None:
    bench.tiny.errors[0] = GenerationFailedError("out of luck")
    owner = await bench.account()
    made = await bench.create(owner)
    async with bench.working():
        view = await bench.until(made.id)
    assert (view.state, view.attempt, bench.tiny.started) == (State.FAILED, 2, 2)
    assert await bench.used(owner) == 0


async def test_a_wrong_request_is_not_tried_again(bench: Bench) -> None:
    bench.tiny.errors[0] = InvalidRequestError("too long for this engine", "duration")
    made = await bench.create(await bench.account())
    async with bench.working():
        view = await bench.until(made.id)
    assert (view.state, view.attempt, bench.tiny.started) == (State.FAILED, 1, 1)
    assert view.error == {"code": "invalid_parameter", "message": "too long for this engine"}


async def test_an_overloaded_engine_costs_no_attempt(bench: Bench, no_backoff: None) -> None:
    bench.tiny.errors[0] = EngineOverloadedError("full", 0.0)
    made = await bench.create(await bench.account())
    async with bench.working():
        await eventually(lambda: bench.tiny.started >= 6)
        bench.tiny.errors.clear()
        view = await bench.until(made.id)
    assert (view.state, view.attempt) == (State.SUCCEEDED, 1)


async def test_one_that_fails_and_then_works_succeeds(bench: Bench, no_backoff: None) -> None:
    bench.tiny.errors[2] = ReplicaLostError("gone")

    async def mend(index: int) -> None:
        if bench.tiny.started == 2:
            bench.tiny.errors.clear()

    bench.tiny.pace = mend
    made = await bench.create(await bench.account(), seed=3)
    async with bench.working():
        view = await bench.until(made.id)
    assert (view.state, view.attempt, view.error) == (State.SUCCEEDED, 2, None)
    assert view.tracks[0].sha256 == hashlib.sha256(sine(3, 32_000).tobytes()).hexdigest()


async def test_a_track_without_its_end_is_a_lost_replica(bench: Bench, no_backoff: None) -> None:
    bench.tiny.end_early = 2
    made = await bench.create(await bench.account())
    async with bench.working():
        view = await bench.until(made.id)
    assert view.error is not None
    assert (view.error["code"], view.attempt) == ("replica_lost", 4)


async def test_one_track_that_fails_stops_the_others(bench: Bench) -> None:
    class OneFails(FakeGenerator):
        async def _before(self, index: int) -> None:
            await super()._before(index)
            if len(self.requests) == 2 and index == 0 and self.started == 2:
                raise InvalidRequestError("not this one", "seed")

    bench.generators["tiny"] = generator = OneFails()
    generator.hold(1)
    made = await bench.create(await bench.account(), num_tracks=2)
    async with bench.working():
        view = await bench.until(made.id)
    assert view.state == State.FAILED
    assert generator.closed + generator.finished == 1
    assert generator.was_closed.is_set()
