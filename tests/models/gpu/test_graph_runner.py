"""The static step makes the tokens of the ordinary one, whoever shares it, however far it runs ahead; on a CPU."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.catalog import TINY_PATH
from models.checkpoint import load_checkpoint
from models.engine.engine import Engine
from models.engine.graph_runner import GraphRunner, row_buckets
from models.engine.loader import build_static_decoder, load_model
from models.engine.model_runner import ModelRunner
from models.engine_config import EngineConfig
from models.errors import GenerationFailedError, InvalidRequestError
from models.musicgen.static_decoder import StaticOptions
from models.types import GenerationRequest
from tests.factories import make_checkpoint
from tests.models.engine_support import assert_idle, drive, request, small_engine, small_model
from tests.models.gpu.interpreter import NEEDS_TRITON, hide_triton
from tests.models.test_engine_batching import VARIED, assert_same

CONFIG = EngineConfig(graph=True, return_codes=True, num_threads=1)


def captured_engine(stereo: bool = False, **config: Any) -> Engine:
    return small_engine(stereo, graph=True, **config)


def runner_of(engine: Engine) -> GraphRunner:
    assert isinstance(engine._runner, GraphRunner)
    return engine._runner


@pytest.mark.parametrize("stereo", [False, True], ids=["mono", "stereo"])
@pytest.mark.parametrize("run_ahead", [0, 1, 3])
def test_tokens_are_those_of_the_ordinary_step(run_ahead: int, stereo: bool) -> None:
    """Guided or not, every way of sampling, together in one step."""
    engine = captured_engine(stereo, run_ahead=run_ahead)
    tracks = drive(engine, {0: VARIED})
    for item in VARIED:
        assert_same(tracks[item.request_id], item, stereo)
    assert_idle(engine)


@pytest.mark.parametrize("run_ahead", [0, 2])
def test_a_row_that_pauses_goes_on_where_it_was(run_ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another half of the requests steps in every quantum of five."""
    engine = captured_engine(run_ahead=run_ahead, pause_rows=False)
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
    made = drive(captured_engine(kv="int8"), {0: [item]})["r"].codes()
    wanted = drive(captured_engine(), {0: [item]})["r"].codes()
    assert (made == wanted).mean() > 0.5


@NEEDS_TRITON
@pytest.mark.parametrize(("layers", "kv"), [("torch", "int8"), ("triton", "model")])
def test_our_kernels_make_the_same_tokens(layers: str, kv: str) -> None:
    """In Triton's interpreter: few rows (everything inside the product), and the sampling kernel if asked for."""
    items = [request("guided", frames=2, seed=1), request("greedy", frames=1, greedy=True)]
    items.append(request("alone", "", frames=2, seed=2, top_p=0.7))
    reference = captured_engine(kv=kv)
    wanted = drive(reference, {0: items})
    engine = captured_engine(attention="triton", layers=layers, kv=kv, run_ahead=1, max_rows=6, kv_positions=100)
    tracks = drive(engine, {0: items})
    for name, track in wanted.items():
        np.testing.assert_array_equal(tracks[name].codes(), track.codes())
    assert_idle(engine)


@NEEDS_TRITON
def test_our_kernels_make_the_same_tokens_in_steps_of_many_rows() -> None:
    """Beyond 16 rows the products are torch's and the sums wait for the next norm. (sdpa: the interpreter is slow.)"""
    items = [request(str(index), frames=1, seed=index) for index in range(9)]
    engine = captured_engine(layers="triton", max_rows=18, kv_positions=18 * 8)
    tracks = drive(engine, {0: items})
    assert max(runner_of(engine)._buckets) == 18
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


def faulty_engine(run_ahead: int, **config: Any) -> Engine:
    model = small_model(graph=True)
    faulty = dataclasses.replace(model, text=FaultyText(model.text))  # type: ignore[arg-type]
    return Engine(faulty, dataclasses.replace(CONFIG, run_ahead=run_ahead, **config))


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


def pausing(engine: Engine, name: str, turns: range, monkeypatch: pytest.MonkeyPatch) -> None:
    """One request is in no step of these."""
    plans, count = engine._scheduler.schedule, iter(range(10**6))

    def schedule(now_s: float) -> Any:
        plan, turn = plans(now_s), next(count)
        if turn not in turns:
            return plan
        others = tuple(each for each in plan.running if each.request_id != name)
        return dataclasses.replace(plan, running=others, composition=plan.composition + 1000)

    monkeypatch.setattr(engine._scheduler, "schedule", schedule)


@pytest.mark.parametrize("first", range(1, 8))
def test_a_failure_is_known_to_who_pauses_meanwhile(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its four steps are looked at five steps later, when it is in no plan: before its last one, or while it waits."""
    engine = faulty_engine(5)
    pausing(engine, "bad", range(first, 14), monkeypatch)
    tracks = drive(engine, {0: [request("bad", "not a number", frames=1), VARIED[0]], 3: VARIED[1:3]})
    assert isinstance(tracks["bad"].error, GenerationFailedError)
    assert "step 1 " in str(tracks["bad"].error)
    for item in VARIED[:3]:
        assert_same(tracks[item.request_id], item)
    assert not runner_of(engine)._found
    assert_idle(engine)


def test_a_failure_of_who_is_cancelled_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even of the next one in its place."""
    engine = faulty_engine(5, max_rows=4)
    pausing(engine, "bad", range(4, 14), monkeypatch)
    bad = request("bad", "not a number", frames=1)
    tracks = drive(engine, {0: [bad, VARIED[0]], 11: VARIED[1:4]}, aborts={11: ["bad"]})
    assert "bad" not in tracks
    for item in VARIED[:4]:
        assert_same(tracks[item.request_id], item)
    assert not runner_of(engine)._found
    assert_idle(engine)


def test_a_broken_step_hides_no_failure_of_who_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = faulty_engine(5)
    pausing(engine, "bad", range(4, 14), monkeypatch)
    launch, calls = runner_of(engine)._executor.launch, iter(range(10**6))

    def faulty(rows: int) -> None:
        if next(calls) == 4:
            raise RuntimeError("the device broke")
        launch(rows)

    monkeypatch.setattr(runner_of(engine)._executor, "launch", faulty)
    tracks = drive(engine, {0: [request("bad", "not a number", frames=1), VARIED[0]], 7: VARIED[1:3]})
    assert "step 1 " in str(tracks["bad"].error)
    assert "try again" in str(tracks[VARIED[0].request_id].error)
    for item in VARIED[1:3]:
        assert_same(tracks[item.request_id], item)
    assert_idle(engine)


def test_a_row_that_held_not_a_number_is_like_a_fresh_one() -> None:
    engine = faulty_engine(2, max_rows=2)
    for item in VARIED[:4]:
        assert drive(engine, {0: [request("bad", "not a number", frames=30)]})["bad"].error is not None
        assert_same(drive(engine, {0: [item]})[item.request_id], item)


def test_a_prompt_without_room_is_refused_and_others_go_on() -> None:
    engine = captured_engine(text_positions=40, run_ahead=1)
    tracks = drive(engine, {0: [VARIED[0], request("long", "x" * 60, frames=5), VARIED[2]]})
    assert "text_positions" in str(tracks["long"].error)
    for item in (VARIED[0], VARIED[2]):
        assert_same(tracks[item.request_id], item)
    assert_idle(engine)


@pytest.mark.parametrize("run_ahead", [0, 2])
def test_a_broken_step_fails_those_in_it_and_the_engine_goes_on(
    run_ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = captured_engine(run_ahead=run_ahead, max_rows=4)
    launch, calls = runner_of(engine)._executor.launch, iter(range(10**6))

    def faulty(rows: int) -> None:
        if next(calls) == 5:
            raise RuntimeError("the device broke")
        launch(rows)

    monkeypatch.setattr(runner_of(engine)._executor, "launch", faulty)
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
    for name, value in (("attention", "flash"), ("layers", "cuda"), ("kv", "int4"), ("weights", "int4")):
        with pytest.raises(ValueError, match=f"{name} must be one of"):
            StaticOptions(**{name: value})  # type: ignore[arg-type]


def test_the_ordinary_engine_is_the_reference() -> None:
    """The other side of every comparison here."""
    assert isinstance(small_engine()._runner, ModelRunner)


def test_what_this_machine_can_not_run_is_refused_when_the_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words of the setting, before anything is computed."""
    hide_triton(monkeypatch)
    config = EngineConfig(device="cuda", graph=True, attention="triton")
    with pytest.raises(InvalidRequestError, match="choose attention 'sdpa'"):
        build_static_decoder(load_checkpoint(TINY_PATH), config)


@NEEDS_TRITON
def test_a_head_that_a_kernel_does_not_do_is_refused_when_the_model_is_loaded(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path, hidden=48, layers=1, heads=2, ffn=8, vocab=64, ratios=(4, 2), filters=2)
    with pytest.raises(InvalidRequestError, match="power of two"):
        load_model(path, EngineConfig(graph=True, attention="triton"))


def test_tokens_and_sound_of_the_embedded_model_are_those_of_the_ordinary_step() -> None:
    """Guided, sampled, a second of it; float32 both."""
    item = GenerationRequest("r", "calm piano in C major", 1.0, 3)
    made = []
    for settings in (EngineConfig(return_codes=True), EngineConfig(graph=True, run_ahead=2, return_codes=True)):
        small = dataclasses.replace(settings, max_rows=2, kv_positions=2 * 60, num_threads=1)
        made.append(drive(Engine(load_model(TINY_PATH, small), small), {0: [item]})["r"])
    np.testing.assert_array_equal(made[1].codes(), made[0].codes())
    np.testing.assert_allclose(made[1].pcm, made[0].pcm, atol=1e-4, rtol=0)
