"""Pausing on the real engine: no token changes, an abort frees at once, and it happens when a listener needs it."""

from __future__ import annotations

import random
from collections.abc import Sequence as SequenceOf
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.engine.engine import Engine
from models.engine.pacing import Pacer
from models.engine.sequence import Sequence
from models.engine.step import EngineOutput, StepPlan, StepResult
from models.engine_config import EngineConfig
from models.errors import GenerationFailedError, InvalidRequestError
from models.musicgen.rows import RowHandle
from models.types import GenerationRequest
from tests.models.engine_support import Tracks, alone, assert_idle, collect, drive, request, small_engine, small_model
from tests.models.test_engine_batching import VARIED, assert_same
from tests.models.test_engine_failures import fail_at

Item = Sequence[RowHandle]


class Whim(Pacer[RowHandle]):
    """Pauses anybody at any step: no policy at all, so whatever holds under it holds under each."""

    def __init__(self, seed: int) -> None:
        super().__init__(50)
        self._chance = random.Random(seed)

    def choose(self, held: SequenceOf[Item], joined: SequenceOf[Item], now_s: float) -> SequenceOf[Item]:
        chosen = [each for each in held if each in joined or self._chance.random() < 0.6]
        return chosen or held[:1]


def whimsical_engine(seed: int, monkeypatch: pytest.MonkeyPatch, **config: object) -> Engine:
    """The choice is made anew at every step."""
    monkeypatch.setattr("models.engine.scheduler.QUANTUM_STEPS", 1)
    engine = small_engine(**config)  # type: ignore[arg-type] # any of the engine's options
    engine._scheduler._pacer = Whim(seed)
    return engine


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), stereo=st.booleans(), order=st.permutations(VARIED))
def test_random_pauses_change_no_token(seed: int, stereo: bool, order: list[GenerationRequest]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        engine = whimsical_engine(seed, monkeypatch, stereo=stereo)
        items = [replace(item, live=index % 2 == 0) for index, item in enumerate(order)]
        was_paused = False
        for item in items:
            engine.add(item)
        tracks: Tracks = {}
        while engine.has_work:
            collect(tracks, engine.step())
            engine.check_integrity()
            was_paused |= engine.stats().paused_rows > 0
        for item in VARIED:
            assert_same(tracks[item.request_id], item, stereo)
        assert was_paused
        assert_idle(engine)


@pytest.mark.parametrize("before_step", range(1, 12))
def test_an_abort_while_paused_frees_at_once_and_leaves_no_trace(
    before_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = whimsical_engine(before_step, monkeypatch)
    for item in VARIED:
        engine.add(item)
    tracks: Tracks = {}
    paused: list[Item] = []
    while not paused or engine.stats().steps < before_step:
        collect(tracks, engine.step())
        running = engine._scheduler._plan.running
        paused = [each for each in engine._scheduler._held.values() if each not in running]
    victim, free = paused[0], engine.stats().free_rows
    rows = victim.num_rows
    assert engine.abort(victim.request_id)
    assert engine.stats().free_rows == free + rows
    engine.check_integrity()
    while engine.has_work:
        collect(tracks, engine.step())
    for item in VARIED:
        if item.request_id != victim.request_id:
            assert_same(tracks[item.request_id], item)
    assert_idle(engine)


def test_a_broken_step_spares_those_who_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    for item in VARIED:
        alone(item)
    fail_at(monkeypatch, range(6, 7))
    engine = whimsical_engine(3, monkeypatch)
    tracks = drive(engine, {0: VARIED})
    failed = {name for name, track in tracks.items() if track.error is not None}
    assert all(isinstance(tracks[name].error, GenerationFailedError) for name in failed)
    assert 0 < len(failed) < len(VARIED)
    monkeypatch.undo()
    for item in VARIED:
        if item.request_id not in failed:
            assert_same(tracks[item.request_id], item)
    assert_idle(engine)


class VirtualClock:
    """Of a machine whose steps take so long per row: it moves when the engine asks a second time in a step."""

    def __init__(self, row_s: float) -> None:
        self.engine: Engine | None = None
        self.now_s = 0.0
        self._row_s = row_s

    def __call__(self) -> float:
        return self.now_s

    def step(self) -> list[EngineOutput]:
        """One step; the time it took passes while it runs."""
        engine = self.engine
        assert engine is not None
        run = engine._runner.run

        def slow(plan: StepPlan[RowHandle]) -> StepResult:
            self.now_s += 0.005 + self._row_s * sum(each.num_rows for each in plan.running)
            return run(plan)

        engine._runner.run = slow  # type: ignore[method-assign]
        try:
            return engine.step()
        finally:
            engine._runner.run = run  # type: ignore[method-assign]


def engine_of(row_s: float, **config: object) -> tuple[Engine, VirtualClock]:
    clock = VirtualClock(row_s)
    engine = Engine(small_model(), EngineConfig(return_codes=True, num_threads=1, **config), clock)  # type: ignore[arg-type]
    clock.engine = engine
    return engine, clock


def play(engine: Engine, clock: VirtualClock, late: int) -> tuple[Tracks, int]:
    """Three tracks get ahead of their listeners, then others come. The tracks, and the most rows that paused."""
    tracks: Tracks = {}
    paused = 0
    for index in range(3):
        engine.add(request(f"early {index}", frames=400, seed=index))
    steps = 0
    while engine.has_work:
        if steps == 250:
            for index in range(late):
                engine.add(request(f"late {index}", frames=200, seed=10 + index))
        collect(tracks, clock.step())
        engine.check_integrity()
        paused, steps = max(paused, engine.stats().paused_rows), steps + 1
    return tracks, paused


def test_those_ahead_pause_for_those_who_have_just_come() -> None:
    engine, clock = engine_of(row_s=0.00125, max_rows=32)  # 12 rows in real time, 6 at the first pace
    tracks, paused = play(engine, clock, late=3)
    assert paused > 0
    assert engine.stats().underruns == 0
    for index in range(3):
        item = request(f"early {index}", frames=400, seed=index)
        assert tracks[item.request_id].codes().tobytes() == alone(item).codes().tobytes()
    assert_idle(engine)

    without, clock = engine_of(row_s=0.00125, max_rows=32, pause_rows=False)
    _, paused = play(without, clock, late=3)
    assert paused == 0
    assert without.stats().underruns > 0, "the same traffic stalls when nobody may pause"
    assert without.stats().stall_seconds > 0.05


def test_a_fast_machine_never_pauses() -> None:
    engine, clock = engine_of(row_s=0.0001, max_rows=32)
    _, paused = play(engine, clock, late=3)
    assert (paused, engine.stats().underruns, engine.stats().predicted_underruns) == (0, 0, 0)


def test_slack_is_in_the_statistics() -> None:
    engine, clock = engine_of(row_s=0.0001)
    engine.add(request(frames=400))
    for _ in range(200):
        clock.step()
    stats = engine.stats()
    assert stats.slack_min_s == stats.slack_median_s > 1
    assert stats.max_rows == stats.active_rows + stats.paused_rows + stats.free_rows


def test_bad_options_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="prebuffer_s must be a number of at least 0"):
        EngineConfig(prebuffer_s=-0.1)
    with pytest.raises(InvalidRequestError, match="pause_rows must be true or false"):
        EngineConfig(pause_rows="yes")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="live must be true or false"):
        GenerationRequest("r", "x", 1.0, live=None)  # type: ignore[arg-type]
