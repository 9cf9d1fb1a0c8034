"""Tracks that are to sound like something: excerpts, codes before the text, and three rows for double guidance."""

from __future__ import annotations

import atexit
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.conditioning.resampling import resampled
from models.engine.engine import Engine
from models.engine.loader import LoadedModel, load_model
from models.engine_config import EngineConfig
from models.errors import InvalidRequestError
from models.style_excerpt import excerpt_start
from models.style_prompt import HeardStyle, StylePrompt
from models.types import AudioPrompt, CodePrompt, GenerationRequest
from tests.models.engine_support import Track, assert_idle, drive, request, small_engine
from tests.models.test_engine_melody import MelodyReference
from tests.style_files import Defined, make_style, sound

RATE, HOP = 400, 8
WINDOW, STRIDE = 40, 24
"""Frames: 0.8 s, so that three of them are soon made."""
WIDTHS = {"torch": 32, "kernel": 64}
"""Of two models: our kernel takes multiples of 64, any other is torch's."""
STYLE, OTHER = sound(3.4, RATE, 30.0), sound(2.0, RATE, 90.0)
EXCERPT = 3 * RATE

_FOLDERS = tempfile.TemporaryDirectory()
atexit.register(_FOLDERS.cleanup)


class StyleReference(MelodyReference):
    """transformers' decoder of a melody model, with a style's embeddings where the melody's would be."""

    def __init__(self, folder: Path, melody: Path) -> None:
        super().__init__(melody)
        self.defined = Defined(folder)
        self.style: Tensor | None = None  # [positions, D] of the window to come
        self.beta = 1.0

    def _logits(self, prompt: str, steps: Tensor, guidance: float) -> Tensor:
        text = self._text(prompt)
        silent, no_text = torch.zeros(1, text.shape[1]), torch.zeros_like(text)
        style = silent if self.style is None else self.style
        rows = [(style, text), (torch.zeros_like(style), no_text), (style, no_text)]
        conditioned, null, wordless = (self._row(steps, torch.cat(row)[None]) for row in rows)
        if guidance <= 1:
            return conditioned
        return null + guidance * (wordless + self.beta * (conditioned - wordless) - null)

    def styled(self, item: GenerationRequest) -> Tensor:
        """Greedy codes of a track made in windows, each with an excerpt of its own."""
        frames = int(item.duration_s * 50)
        self.beta = item.guidance_beta
        made, offset, known = [self.no_codes()], 0, self.no_codes()
        while offset + known.shape[1] < frames:
            self.style = self._excerpt(item, offset, is_long=frames > WINDOW)
            window = self.window(item.prompt, known, min(frames - offset, WINDOW), item.sampling.guidance)
            made.append(window[:, known.shape[1] :])
            known, offset = window[:, STRIDE:], offset + STRIDE
        return torch.cat(made, dim=1)

    def _excerpt(self, item: GenerationRequest, offset: int, *, is_long: bool) -> Tensor | None:
        if item.style is None:
            return None
        assert isinstance(item.style, StylePrompt)
        samples = torch.frombuffer(bytearray(item.style.audio.pcm), dtype=torch.float32)
        length = min(EXCERPT, len(samples))
        if is_long:  # a window is shorter than the excerpt here: nothing is drawn
            piece = samples[(torch.arange(length) + offset * HOP) % len(samples)]
        else:
            start = excerpt_start(item.seed, 0, len(samples) - length)
            piece = samples[start : start + length]
        heard: tuple[Tensor, Tensor] = self.defined(resampled(piece, RATE, 24_000), item.style.streams or 3)
        return heard[1]


@cache
def folders(decoder: str) -> tuple[Path, Path]:
    path, width = Path(_FOLDERS.name) / decoder, WIDTHS[decoder]
    melody = path.with_name(f"{decoder} melody")
    shape = {"hidden": width, "layers": 2, "heads": 2, "ffn": 2 * width, "ratios": (4, 2), "text_hidden": 16}
    return make_style(path, melody, **shape), melody


@cache
def model(decoder: str, weights: str = "fp32") -> LoadedModel:
    loaded = load_model(folders(decoder)[0], EngineConfig(num_threads=1, weights=weights))
    return replace(loaded, config=replace(loaded.config, max_duration_s=(WINDOW + 0.01) / 50))


def engine_of(decoder: str, weights: str = "fp32", **config: Any) -> Engine:
    settings = {"prefill_rows": 64, "max_rows": 16, **config}
    return Engine(model(decoder, weights), EngineConfig(return_codes=True, num_threads=1, weights=weights, **settings))


def like(item: GenerationRequest, samples: Tensor, **settings: Any) -> GenerationRequest:
    return replace(item, style=StylePrompt(AudioPrompt(samples.numpy().tobytes(), 1, RATE), **settings))


def long(item: GenerationRequest) -> GenerationRequest:
    return replace(item, extend_stride_s=(STRIDE + 0.01) / 50)


def made(track: Track) -> NDArray[np.int64]:
    assert track.error is None
    return track.codes()


@cache
def alone(item: GenerationRequest, decoder: str, weights: str = "fp32") -> NDArray[np.int64]:
    engine = engine_of(decoder, weights)
    return made(drive(engine, {0: [engine.encoded(item)]})[item.request_id])


# ------------------------------------------------------------------------------------------------ as it is defined

GREEDY = {"greedy": True}
CASES = {
    "double": like(request("r", "calm piano", 20, 1, **GREEDY), STYLE),
    "double, said": like(request("r", "x", 18, 2, guidance=2.0, guidance_beta=2.5, **GREEDY), OTHER, streams=6),
    "single": like(request("r", "calm piano", 20, 3, guidance_beta=1.0, **GREEDY), STYLE),
    "style only": like(request("r", "", 20, 4, **GREEDY), OTHER, streams=1),
    "text only": request("r", "fast techno", 16, 5, **GREEDY),
    "neither": request("r", "", 14, 6, **GREEDY),
    "unguided": like(request("r", "x", 16, 7, guidance=1.0, **GREEDY), STYLE),
    "long": like(long(request("r", "calm piano", 66, 8, **GREEDY)), STYLE),
}
PLACES = [("kernel", case) for case in CASES] + [("torch", case) for case in ("double", "style only")]


@pytest.mark.parametrize(("decoder", "case"), PLACES)
@torch.inference_mode()
def test_greedy_tokens_are_those_of_the_definition(decoder: str, case: str) -> None:
    wanted = StyleReference(*folders(decoder)).styled(CASES[case])
    np.testing.assert_array_equal(alone(CASES[case], decoder), wanted.numpy())


def test_what_is_heard_changes_what_is_made() -> None:
    item = like(request("r", frames=20, seed=3), STYLE)
    beta = replace(item.sampling, guidance_beta=2.0)
    variants = [item, like(item, OTHER), like(item, STYLE, excerpt_s=1.5), like(item, STYLE, streams=1)]
    variants += [replace(item, style=None), replace(item, prompt=""), replace(item, sampling=beta)]
    assert len({alone(each, "kernel").tobytes() for each in variants}) == len(variants)


def test_an_excerpt_is_drawn_from_the_seed_for_every_window() -> None:
    engine, item = engine_of("kernel"), like(long(request("r", frames=75)), STYLE)
    heard = [engine.encoded(replace(item, seed=seed)).style for seed in (1, 1, 2)]
    assert heard[0] == heard[1]
    assert all(isinstance(each, HeardStyle) and len(set(each.windows)) == 3 for each in heard)
    short = [engine.encoded(replace(like(request("r"), STYLE), seed=seed)).style for seed in range(4)]
    assert len(set(short)) > 1
    assert isinstance(short[0], HeardStyle)
    assert (short[0].streams, short[0].positions) == (3, 15)


def test_stereo_sound_is_heard_as_the_mean_of_both_sides() -> None:
    item, engine = request("r", frames=20), engine_of("kernel")
    sides = torch.stack([2 * STYLE, torch.zeros_like(STYLE)], dim=1).contiguous()
    both = replace(item, style=StylePrompt(AudioPrompt(sides.numpy().tobytes(), 2, RATE)))
    assert engine.encoded(both) == engine.encoded(like(item, STYLE))


# ----------------------------------------------------------------------------------------------- in a crowded batch

CROWD = [
    like(request("double", frames=14, seed=1), STYLE),
    request("text", "a long prompt about soft strings and drums", frames=31, seed=2, top_p=0.9),
    like(request("style", "", frames=25, seed=3), OTHER),
    request("neither", "", frames=12, seed=4),
    like(long(request("long", "fast techno", frames=60, seed=5)), STYLE, excerpt_s=1.5),
    like(replace(request("unguided", frames=20, seed=6, guidance=1.0), live=False), OTHER),
    like(request("single", frames=16, seed=8, guidance_beta=1.0), STYLE, streams=6),
    replace(
        like(request("continued", frames=33, seed=7, guidance_beta=3.0), STYLE),
        continues=CodePrompt(np.random.default_rng(0).integers(0, 64, (4, 11)).astype("<i8").tobytes(), 4),
    ),
]


@pytest.mark.parametrize(
    ("decoder", "weights", "config"),
    [
        ("torch", "fp32", {"prefill_rows": 7}),
        ("kernel", "int8", {"prefill_rows": 2, "max_rows": 5}),
    ],
)
def test_the_same_tokens_in_any_crowd(decoder: str, weights: str, config: dict[str, Any]) -> None:
    """Of requests of one, two and three rows; a step that fills two rows at most gives one of three a position too."""
    engine = engine_of(decoder, weights, **config)
    heard = [engine.encoded(item) for item in CROWD]
    assert {each.num_rows for each in heard} == {1, 2, 3}
    free = engine.stats().free_kv_positions
    tracks = drive(engine, {0: heard[:3], 9: heard[3:6], 40: heard[6:]})
    for item in CROWD:
        np.testing.assert_array_equal(made(tracks[item.request_id]), alone(item, decoder, weights), item.request_id)
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.outstanding_row_steps, stats.free_kv_positions) == (0, 0, 0, free)


def test_cancelled_while_its_style_is_worked_through_leaves_no_trace() -> None:
    engine, later = engine_of("torch", max_rows=3, prefill_rows=6), CROWD[2]
    engine.add(engine.encoded(CROWD[0]))
    for _ in range(3):
        engine.step()
    assert engine.stats().free_rows == 0
    assert engine.abort(CROWD[0].request_id)
    tracks = drive(engine, {0: [engine.encoded(later)]})
    np.testing.assert_array_equal(made(tracks[later.request_id]), alone(later, "torch"))
    assert_idle(engine)


@pytest.mark.parametrize("left", [1, 2])
def test_a_request_never_steps_without_one_of_its_rows(left: int) -> None:
    engine = engine_of("kernel")
    engine.add(engine.encoded(CROWD[0]))
    engine.step()
    (sequence,) = engine._scheduler._held.values()
    assert len(sequence.rows) == 3
    sequence.rows = sequence.rows[:left]
    with pytest.raises(AssertionError, match="lost a row"):
        engine.check_integrity()
    with pytest.raises(AssertionError):  # the step that would use it, which also finds that the engine can not go on
        drive(engine, {})


def test_rows_are_reserved_for_all_three() -> None:
    item = like(request("r", "ab", frames=20), STYLE)  # three tokens, 15 of the style, 20 frames and 3 steps of delay
    engine = engine_of("kernel", kv_positions=3 * 48, max_rows=3)
    assert made(drive(engine, {0: [engine.encoded(item)]})["r"]).shape == (4, 20)
    with pytest.raises(InvalidRequestError, match="it takes 3 rows of 41 positions"):
        engine_of("kernel", max_rows=2).check_request(item)
    plain = like(request("r", "ab", frames=20, guidance_beta=1.0), STYLE)
    engine_of("kernel", max_rows=2).check_request(plain)


def test_a_graph_is_not_captured_for_a_style_model(caplog: pytest.LogCaptureFixture) -> None:
    settings = EngineConfig(num_threads=1, graph=True, run_ahead=2, return_codes=True, prefill_rows=64)
    engine = Engine(load_model(folders("torch")[0], settings), settings)
    assert "not captured" in caplog.text
    item = CROWD[0]
    np.testing.assert_array_equal(made(drive(engine, {0: [engine.encoded(item)]})["double"]), alone(item, "torch"))


# ------------------------------------------------------------------------------------------------------ at the door


def test_what_can_not_be_honoured_is_refused_and_says_why() -> None:
    engine, item = engine_of("kernel"), request("r", frames=20)
    bad = STYLE.clone()
    bad[3] = torch.inf
    other_rate = replace(item, style=StylePrompt(AudioPrompt(bytes(4 * 90_000), 1, 32_000)))
    pushed = request("r", frames=20, guidance_beta=2.0)
    melody = replace(item, melody=AudioPrompt(STYLE.numpy().tobytes(), 1, RATE))
    for wrong, message, param in [
        (like(item, bad), "no numbers", "style"),
        (other_rate, "this model takes 400", "style"),
        (like(item, STYLE, streams=7), "style_streams is 7, this model has 6", "style_streams"),
        (pushed, "there is none: leave it out", "guidance_beta"),
        (melody, "can not follow a melody", "melody"),
    ]:
        with pytest.raises(InvalidRequestError, match=message) as refused:
            engine.encoded(wrong)
        assert refused.value.param == param
    with pytest.raises(InvalidRequestError, match="can not take a style") as refused:
        small_engine().check_request(like(item, STYLE))
    assert refused.value.param == "style"
    assert not engine.has_work
