"""A request that fails, fails alone; a step that fails takes only those in it; an engine that can not go on says so.

Faults are put into the real parts: a text encoder that raises or makes NaN, a codec that breaks on one push, a
decoder that raises in one step.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from models.engine.engine import MAX_BROKEN_STEPS_IN_A_ROW, Engine
from models.engine.loader import LoadedModel
from models.engine_config import EngineConfig
from models.errors import EngineDeadError, GenerationFailedError
from models.musicgen.static_decoder import StaticDecoder
from tests.models.engine_support import Track, alone, assert_idle, drive, request, small_engine, small_model
from tests.models.test_engine_batching import VARIED, assert_same

POISON = "poison"
CONFIG = EngineConfig(return_codes=True, num_threads=1)


class FaultyText:
    """The real text encoder, but one prompt raises and one becomes NaN."""

    def __init__(self, text: Any) -> None:
        self._text = text

    def encode(self, prompt: str) -> Tensor:
        if prompt == POISON:
            raise RuntimeError("out of ink")
        states: Tensor = self._text.encode(prompt)
        return torch.full_like(states, float("nan")) if prompt == "not a number" else states


def faulty_text_engine(**config: Any) -> Engine:
    model = small_model()
    faulty: LoadedModel = dataclasses.replace(model, text=FaultyText(model.text))  # type: ignore[arg-type]
    return Engine(faulty, dataclasses.replace(CONFIG, **config))


def assert_only_failed(tracks: dict[str, Track], *names: str) -> None:
    for name in names:
        assert isinstance(tracks[name].error, GenerationFailedError)
        assert not tracks[name].is_complete
    for item in VARIED:
        if item.request_id not in names:
            assert_same(tracks[item.request_id], item)


@pytest.mark.parametrize("prompt", [POISON, "not a number"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("arrival", [0, 7])
def test_a_bad_prompt_fails_alone(prompt: str, guidance: float, arrival: int) -> None:
    engine = faulty_text_engine()
    arrivals = {0: list(VARIED)}
    arrivals.setdefault(arrival, []).insert(0, request("bad", prompt, guidance=guidance))
    assert_only_failed(drive(engine, arrivals), "bad")
    assert engine.stats().failed == 1
    assert_idle(engine)


def test_a_row_that_held_not_a_number_is_like_a_fresh_one() -> None:
    engine = faulty_text_engine(max_rows=2)
    for item in VARIED:
        bad = drive(engine, {0: [request("bad", "not a number", frames=30)]})["bad"]
        assert isinstance(bad.error, GenerationFailedError)
        assert_same(drive(engine, {0: [item]})[item.request_id], item)
    assert_idle(engine)


@pytest.mark.parametrize("fault", ["raises", "makes NaN"])
def test_a_codec_error_fails_its_request_alone(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = small_model().codec
    real_step = codec.step

    def faulty_step(codes: Tensor, *rest: Any) -> tuple[Tensor, Any]:
        is_victim = codes.shape[2] == 29
        if is_victim and fault == "raises":
            raise RuntimeError("the codec broke")
        samples, state = real_step(codes, *rest)
        return (samples * float("nan") if is_victim else samples), state

    sizes: dict[str, Any] = {"first_chunk_s": 0.2, "chunk_growth": 10.0, "max_chunk_s": 2.0}
    victim = request("bad", frames=10 + codec.lookahead_frames + 29)  # nobody else pushes 29 frames at a time
    others = [VARIED[0], VARIED[2], VARIED[3]]
    expected = {item.request_id: alone(item, **sizes) for item in others}
    monkeypatch.setattr(codec, "step", faulty_step)
    engine = small_engine(**sizes)
    tracks = drive(engine, {0: [*others[:1], victim, *others[1:]]})
    assert isinstance(tracks["bad"].error, GenerationFailedError)
    assert len(tracks["bad"].chunks) == 1, "what was made before the error was sent"
    for name, track in expected.items():
        assert tracks[name].pcm.tobytes() == track.pcm.tobytes()
    assert_idle(engine)


def fail_at(monkeypatch: pytest.MonkeyPatch, calls: range) -> None:
    """Let the decoder raise in these of its calls."""
    decoder = small_model().decoder
    assert not isinstance(decoder, StaticDecoder)
    real_step, count = decoder.forward_step, iter(range(10**6))

    def faulty_step(*args: Any) -> Tensor:
        if next(count) in calls:
            raise RuntimeError("the decoder broke")
        return real_step(*args)

    monkeypatch.setattr(decoder, "forward_step", faulty_step)


@pytest.mark.parametrize("broken_call", [0, 1, 5, 12])
def test_a_broken_step_fails_those_in_it_and_nobody_else(broken_call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for item in VARIED:
        assert_same(drive(small_engine(), {0: [item]})[item.request_id], item)
    fail_at(monkeypatch, range(broken_call, broken_call + 1))
    engine = small_engine(max_rows=4)
    tracks = drive(engine, {0: VARIED})
    failed = [name for name, track in tracks.items() if track.error is not None]
    assert 1 <= len(failed) <= 4
    assert_only_failed(tracks, *failed)
    stats = engine.stats()
    assert (stats.broken_steps, stats.failed, stats.finished) == (1, len(failed), len(VARIED) - len(failed))
    assert_idle(engine)


def test_an_engine_whose_steps_all_fail_declares_itself_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, range(10**6))
    engine = small_engine()
    for index in range(MAX_BROKEN_STEPS_IN_A_ROW - 1):
        tracks = drive(engine, {0: [request(str(index))]})
        assert isinstance(tracks[str(index)].error, GenerationFailedError)
    engine.add(request("last"))
    with pytest.raises(EngineDeadError):
        engine.step()


def test_the_synchronous_generator_raises_what_ended_the_request() -> None:
    engine = faulty_text_engine()
    with pytest.raises(GenerationFailedError):
        list(engine.generate(request("bad", POISON)))
    assert_idle(engine)


def test_a_lost_row_is_a_bug_that_is_seen() -> None:
    engine = small_engine()
    engine.add(request())
    engine.step()
    sequence = engine._scheduler.schedule(0.0).running[0]
    sequence.rows = sequence.rows[:1]
    with pytest.raises(AssertionError, match="lost a row"):
        engine.check_integrity()
