"""The static step makes the tokens of the ordinary one, whoever shares it, however far it runs ahead; on a CPU."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.gpu.graph_engine import GraphEngine
from models.engine.engine import Engine
from models.engine.graph_runner import row_buckets
from models.engine_config import EngineConfig
from models.errors import GenerationFailedError
from models.musicgen.static_decoder import StaticOptions
from tests.models.engine_support import Track, assert_idle, drive, request, small_engine
from tests.models.gpu.graph_support import SDPA, graph_engine, static_model
from tests.models.gpu.interpreter import NEEDS_TRITON
from tests.models.test_engine_batching import VARIED, assert_same

CONFIG = EngineConfig(return_codes=True, num_threads=1)


@pytest.mark.parametrize("stereo", [False, True], ids=["mono", "stereo"])
@pytest.mark.parametrize("run_ahead", [0, 1, 3])
def test_tokens_are_those_of_the_ordinary_step(run_ahead: int, stereo: bool) -> None:
    """Guided or not, every way of sampling, together in one step."""
    engine = graph_engine(run_ahead=run_ahead, stereo=stereo)
    tracks = drive(engine, {0: VARIED})
    for item in VARIED:
        assert_same(tracks[item.request_id], item, stereo)
    assert_idle(engine)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), run_ahead=st.integers(0, 4))
def test_any_traffic_gives_the_same_audio(seed: int, run_ahead: int) -> None:
    """Joining, leaving and aborting at any step, in a few rows and a small arena."""
    chance = random.Random(seed)
    engine = graph_engine(run_ahead=run_ahead, max_rows=chance.randint(2, 9), kv_positions=chance.randint(70, 200))
    arrivals: dict[int, list[Any]] = {}
    aborts: dict[int, list[str]] = {}
    for item in chance.sample(VARIED, len(VARIED)):
        arrivals.setdefault(chance.randint(0, 30), []).append(item)
        if chance.random() < 0.3:
            aborts.setdefault(chance.randint(0, 60), []).append(item.request_id)
    tracks = drive(engine, arrivals, aborts)
    aborted = {name for names in aborts.values() for name in names}
    for item in VARIED:
        track = tracks.get(item.request_id, Track())
        assert track.is_complete or item.request_id in aborted
        if track.is_complete:
            assert_same(track, item)
    assert_idle(engine)


@pytest.mark.parametrize("run_ahead", [0, 2])
def test_a_row_that_pauses_goes_on_where_it_was(run_ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another half of the requests steps in every quantum of five."""
    engine = graph_engine(run_ahead=run_ahead, pause_rows=False)
    plans = engine._scheduler.schedule
    turns = iter(range(10**6))

    def half(now_s: float) -> Any:
        plan, turn = plans(now_s), next(turns) // 5
        running = tuple(each for each in plan.running if each in plan.joined or (each.slot + turn) % 2)
        return dataclasses.replace(plan, running=running, composition=1000 * turn + plan.composition)

    monkeypatch.setattr(engine._scheduler, "schedule", half)
    tracks = drive(engine, {0: VARIED[:4], 3: VARIED[4:]})
    for item in VARIED:
        assert_same(tracks[item.request_id], item)
    assert_idle(engine)


def test_eight_bit_keys_and_values_change_little() -> None:
    """Greedy tokens of an untrained model, the hardest case; what is close stays close."""
    item = request("r", frames=20, greedy=True)
    made = drive(graph_engine(StaticOptions("sdpa", "torch", kv="int8")), {0: [item]})["r"].codes()
    wanted = drive(graph_engine(), {0: [item]})["r"].codes()
    assert (made == wanted).mean() > 0.5


@NEEDS_TRITON
@pytest.mark.parametrize("kv", ["model", "int8"])
@pytest.mark.parametrize("layers", ["torch", "triton"])
def test_our_kernels_make_the_same_tokens(layers: str, kv: str) -> None:
    """In Triton's interpreter: few rows (everything inside the product), and the sampling kernel if asked for."""
    items = [request("guided", frames=3, seed=1), request("greedy", frames=2, greedy=True)]
    items.append(request("alone", "", frames=4, seed=2, top_p=0.7))
    reference = graph_engine(dataclasses.replace(SDPA, kv=kv))
    wanted = drive(reference, {0: items})
    engine = graph_engine(StaticOptions("triton", layers, kv), run_ahead=1, max_rows=6, kv_positions=100)
    tracks = drive(engine, {0: items})
    for name, track in wanted.items():
        np.testing.assert_array_equal(tracks[name].codes(), track.codes())
    assert_idle(engine)


@NEEDS_TRITON
def test_our_kernels_make_the_same_tokens_in_steps_of_many_rows() -> None:
    """Beyond 16 rows the products are torch's and the sums wait for the next norm. (sdpa: the interpreter is slow.)"""
    items = [request(str(index), frames=1, seed=index) for index in range(9)]
    engine = graph_engine(StaticOptions("sdpa", "triton"), max_rows=18, kv_positions=18 * 8)
    tracks = drive(engine, {0: items})
    assert max(engine._graphs._buckets) == 18
    for item in items:
        assert_same(tracks[item.request_id], item)


# -------------------------------------------------------------------------------------------------------- failures


class FaultyText:
    """The real text encoder, but one prompt raises and one becomes NaN."""

    def __init__(self, text: Any) -> None:
        self._text = text

    def encode(self, prompt: str) -> Tensor:
        if prompt == "poison":
            raise RuntimeError("out of ink")
        states: Tensor = self._text.encode(prompt)
        return torch.full_like(states, float("nan")) if prompt == "not a number" else states


def faulty_engine(run_ahead: int, options: StaticOptions = SDPA, **config: Any) -> GraphEngine:
    model = static_model(options)
    faulty = dataclasses.replace(model, text=FaultyText(model.text))  # type: ignore[arg-type]
    return GraphEngine(faulty, dataclasses.replace(CONFIG, **config), run_ahead)


@pytest.mark.parametrize("run_ahead", [0, 3])
@pytest.mark.parametrize("prompt", ["poison", "not a number"])
@pytest.mark.parametrize("frames", [1, 25])
def test_a_failure_found_late_is_its_requests_alone(frames: int, prompt: str, run_ahead: int) -> None:
    """Also of a track that would be done before its failure is known."""
    engine = faulty_engine(run_ahead)
    tracks = drive(engine, {0: VARIED[:4], 5: [request("bad", prompt, frames=frames)], 6: VARIED[4:]})
    assert isinstance(tracks["bad"].error, GenerationFailedError)
    assert not tracks["bad"].chunks
    if prompt == "not a number":
        assert "step 1 " in str(tracks["bad"].error)
    for item in VARIED:
        assert_same(tracks[item.request_id], item)
    assert engine.stats().failed == 1
    assert_idle(engine)


def test_a_row_that_held_not_a_number_is_like_a_fresh_one() -> None:
    engine = faulty_engine(2, max_rows=2)
    for item in VARIED[:4]:
        assert drive(engine, {0: [request("bad", "not a number", frames=30)]})["bad"].error is not None
        assert_same(drive(engine, {0: [item]})[item.request_id], item)


def test_a_prompt_without_room_is_refused_and_others_go_on() -> None:
    options = dataclasses.replace(SDPA, text_positions=40)
    engine = graph_engine(options, run_ahead=1)
    tracks = drive(engine, {0: [VARIED[0], request("long", "x" * 60, frames=5), VARIED[2]]})
    assert "text_positions" in str(tracks["long"].error)
    for item in (VARIED[0], VARIED[2]):
        assert_same(tracks[item.request_id], item)
    assert_idle(engine)


@pytest.mark.parametrize("run_ahead", [0, 2])
def test_a_broken_step_fails_those_in_it_and_the_engine_goes_on(
    run_ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = graph_engine(run_ahead=run_ahead, max_rows=4)
    launch, calls = engine._graphs._executor.launch, iter(range(10**6))

    def faulty(rows: int) -> None:
        if next(calls) == 5:
            raise RuntimeError("the device broke")
        launch(rows)

    monkeypatch.setattr(engine._graphs._executor, "launch", faulty)
    tracks = drive(engine, {0: VARIED})
    failed = [name for name, track in tracks.items() if track.error is not None]
    assert 1 <= len(failed) <= 4
    for item in VARIED:
        if item.request_id not in failed:
            assert_same(tracks[item.request_id], item)
    assert engine.stats().broken_steps == 1
    assert_idle(engine)


def test_buckets_are_powers_of_two_and_the_most_there_are() -> None:
    assert row_buckets(1) == (1,)
    assert row_buckets(6) == (1, 2, 4, 6)
    assert row_buckets(8) == (1, 2, 4, 8)


def test_options_that_do_not_exist_are_refused() -> None:
    for name, value in (("attention", "flash"), ("layers", "cuda"), ("kv", "int4")):
        with pytest.raises(ValueError, match=f"{name} must be one of"):
            dataclasses.replace(SDPA, **{name: value})  # type: ignore[arg-type]


def test_the_ordinary_engine_is_the_reference() -> None:
    """The other side of every comparison here runs `ModelRunner`."""
    assert type(small_engine()) is Engine
