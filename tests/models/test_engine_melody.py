"""Tracks that follow a melody: what a melody model hears comes before its codes, in every window anew."""

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
from transformers import AutoTokenizer, MusicgenMelodyForConditionalGeneration

from models.conditioning.chroma import tune
from models.engine.async_engine import AsyncEngine
from models.engine.engine import Engine
from models.engine.loader import LoadedModel, load_model
from models.engine_config import EngineConfig
from models.errors import InvalidRequestError
from models.types import AudioPrompt, CodePrompt, GenerationRequest
from tests.factories import make_checkpoint
from tests.models.engine_support import Track, assert_idle, drive, request
from tests.models.reference import Reference

RATE, HOP = 400, 8
WINDOW, STRIDE = 40, 24
"""Frames: 0.8 s, so that three of them are soon made."""
WIDTHS = {"torch": 32, "kernel": 64}
"""Of two models: our kernel takes multiples of 64, any other is torch's."""

_FOLDERS = tempfile.TemporaryDirectory()
atexit.register(_FOLDERS.cleanup)


class MelodyReference(Reference):
    """As `Reference`, with the prefix that transformers makes of a text and a melody."""

    def __init__(self, folder: Path) -> None:
        self.model = MusicgenMelodyForConditionalGeneration.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        config = self.model.config.decoder
        self.special, self.codebooks = config.vocab_size, config.num_codebooks
        self.delays = [codebook // config.audio_channels for codebook in range(config.num_codebooks)]
        self.heard: list[Tensor] = []  # one-hot [235, 12] of each window to come

    def _logits(self, prompt: str, steps: Tensor, guidance: float) -> Tensor:
        null = torch.zeros(235, 12)
        null[:, 0] = 1
        text = self._text(prompt)
        conditioned = self._row(steps, self._prefix(self.heard[0] if self.heard else null, text))
        if guidance <= 1 or not (prompt or self.heard):
            return conditioned
        unconditioned = self._row(steps, self._prefix(null, torch.zeros_like(text)))
        return unconditioned + (conditioned - unconditioned) * guidance

    def _text(self, prompt: str) -> Tensor:
        if not prompt:
            return torch.zeros(1, self.model.config.decoder.hidden_size)
        states = self.model.text_encoder(**self.tokenizer([prompt], return_tensors="pt")).last_hidden_state
        projected: Tensor = self.model.enc_to_dec_proj(states)[0]
        return projected

    def _prefix(self, chroma: Tensor, text: Tensor) -> Tensor:
        return torch.cat([self.model.audio_enc_to_dec_proj(chroma), text])[None]

    def windows(self, prompt: str, melody: Tensor | None, frames: int, guidance: float) -> Tensor:
        """Greedy codes of a track made in windows; each hears the melody from its own beginning, round and round."""
        made, offset, known = [self.no_codes()], 0, self.no_codes()
        while offset + known.shape[1] < frames:
            self.heard = [] if melody is None else [self._heard(melody, offset, frames > WINDOW)]
            window = self.window(prompt, known, min(frames - offset, WINDOW), guidance)
            made.append(window[:, known.shape[1] :])
            known, offset = window[:, STRIDE:], offset + STRIDE
        return torch.cat(made, dim=1)

    @staticmethod
    def _heard(melody: Tensor, offset: int, is_long: bool) -> Tensor:
        if is_long:
            places = torch.arange(offset * HOP, offset * HOP + WINDOW * HOP)
            melody = melody[places % len(melody)]
        return torch.nn.functional.one_hot(tune(melody[: WINDOW * HOP], RATE), 12).float()


@cache
def checkpoint(decoder: str, stereo: bool, weights: str = "fp32") -> tuple[LoadedModel, MelodyReference]:
    width, path = WIDTHS[decoder], Path(_FOLDERS.name) / f"{decoder} {stereo}"
    if not path.exists():
        shape = {
            "hidden": width,
            "layers": 2,
            "heads": 2,
            "ffn": 2 * width,
            "ratios": (4, 2),
            "filters": 2,
            "text_hidden": 16,
        }
        make_checkpoint(path, **shape, stereo=stereo, melody=True)  # type: ignore[arg-type]
    model = load_model(path, EngineConfig(num_threads=1, weights=weights))
    config = replace(model.config, max_duration_s=(WINDOW + 0.01) / 50)
    return replace(model, config=config), MelodyReference(path)


def engine_of(decoder: str, stereo: bool = False, weights: str = "fp32", **config: Any) -> Engine:
    settings = {"prefill_rows": 64, "max_rows": 16, **config}
    engine_config = EngineConfig(return_codes=True, num_threads=1, weights=weights, **settings)
    return Engine(checkpoint(decoder, stereo, weights)[0], engine_config)


def samples(*pitches_hz: float, frames: int = 17) -> NDArray[np.float32]:
    time_s = np.arange(frames * HOP) / RATE
    return np.concatenate([np.sin(2 * np.pi * hz * time_s) for hz in pitches_hz]).astype(np.float32)


TUNE = samples(30, 47, 101, 66, 150)
OTHER = samples(73, 140, frames=9)


def following(item: GenerationRequest, sound: NDArray[np.float32]) -> GenerationRequest:
    return replace(item, melody=AudioPrompt(sound.astype("<f4").tobytes(), 1, RATE))


def long(item: GenerationRequest) -> GenerationRequest:
    return replace(item, extend_stride_s=(STRIDE + 0.01) / 50)


def made(track: Track, stereo: bool = False) -> NDArray[np.int64]:
    assert track.error is None
    return track.codes(8 if stereo else 4)


def alone(item: GenerationRequest, decoder: str, stereo: bool = False, weights: str = "fp32") -> NDArray[np.int64]:
    engine = engine_of(decoder, stereo, weights)
    return made(drive(engine, {0: [engine.encoded(item)]})[item.request_id], stereo)


# --------------------------------------------------------------------------------------------- the same as transformers

CASES = {
    "both": ("calm piano", TUNE, 3.0, 20),
    "text only": ("fast techno", None, 3.0, 20),
    "melody only": ("", OTHER, 3.0, 20),
    "neither": ("", None, 3.0, 14),
    "unguided": ("x", TUNE, 1.0, 20),
    "long": ("calm piano", TUNE, 2.0, 66),
}
PLACES = [(decoder, False, case) for case in CASES for decoder in WIDTHS]
PLACES += [("kernel", True, "both"), ("torch", True, "melody only"), ("kernel", True, "long")]
PLACES.remove(("torch", False, "long"))


@pytest.mark.parametrize(("decoder", "stereo", "case"), PLACES)
@torch.inference_mode()
def test_greedy_tokens_are_those_of_transformers(decoder: str, stereo: bool, case: str) -> None:
    prompt, sound, guidance, frames = CASES[case]
    item = long(request("r", prompt, frames, greedy=True, guidance=guidance))
    heard = None if sound is None else torch.from_numpy(sound)
    wanted = checkpoint(decoder, stereo)[1].windows(prompt, heard, frames, guidance)
    ours = alone(item if sound is None else following(item, sound), decoder, stereo)
    np.testing.assert_array_equal(ours, wanted.numpy())


@torch.inference_mode()
def test_the_reference_is_what_transformers_generates() -> None:
    """Its own ``generate``, with a cache, guidance and inputs as it prepares them."""
    _, theirs = checkpoint("torch", False)
    theirs.heard = [torch.nn.functional.one_hot(tune(torch.from_numpy(TUNE), RATE), 12).float()]
    seen: list[Tensor] = []
    decode = theirs.model.audio_encoder.decode

    def watched(codes: Tensor, *args: Any, **settings: Any) -> Any:
        seen.append(codes)
        return decode(codes, *args, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs.model.audio_encoder, "decode", watched)
        inputs = theirs.tokenizer(["calm piano"], return_tensors="pt")
        features = theirs.heard[0][None, :5]
        theirs.model.generate(
            **inputs, input_features=features, do_sample=False, guidance_scale=3.0, max_new_tokens=15 + 3
        )
    theirs.heard = [features[0].repeat(47, 1)]
    wanted = theirs.window("calm piano", theirs.no_codes(), 15, 3.0)
    np.testing.assert_array_equal(seen[0][0, 0].numpy(), wanted.numpy())


# ----------------------------------------------------------------------------------------------- in a crowded batch

CROWD = [
    following(request("both", frames=14, seed=1), TUNE),
    request("text", "a long prompt about soft strings and drums", frames=31, seed=2, top_p=0.9),
    following(request("melody", "", frames=25, seed=3), OTHER),
    request("neither", "", frames=12, seed=4),
    following(long(request("long", "fast techno", frames=60, seed=5)), TUNE),
    following(replace(request("unguided", frames=20, seed=6, guidance=1.0), live=False), OTHER),
    replace(
        following(request("continued", frames=33, seed=7), TUNE),
        continues=CodePrompt(np.random.default_rng(0).integers(0, 64, (4, 11)).astype("<i8").tobytes(), 4),
    ),
]


@cache
def solo(item: GenerationRequest, decoder: str, weights: str) -> NDArray[np.int64]:
    return alone(item, decoder, weights=weights)


@pytest.mark.parametrize(
    ("decoder", "weights", "config"),
    [
        ("torch", "fp32", {"prefill_rows": 7}),
        ("kernel", "fp32", {"prefill_rows": 30, "max_rows": 5}),
        ("kernel", "bf16", {}),
        ("kernel", "int8", {"prefill_rows": 9}),
        ("kernel", "int4", {"prefill_rows": 100}),
    ],
)
def test_the_same_tokens_in_any_crowd(decoder: str, weights: str, config: dict[str, Any]) -> None:
    engine = engine_of(decoder, weights=weights, **config)
    heard = [engine.encoded(item) for item in CROWD]
    free = engine.stats().free_kv_positions
    tracks = drive(engine, {0: heard[:3], 9: heard[3:6], 40: heard[6:]})
    for item in CROWD:
        np.testing.assert_array_equal(made(tracks[item.request_id]), solo(item, decoder, weights), item.request_id)
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.outstanding_row_steps, stats.free_kv_positions) == (0, 0, 0, free)


def test_cancelled_while_its_melody_is_worked_through_leaves_no_trace() -> None:
    engine, later = engine_of("torch", max_rows=2, prefill_rows=40), CROWD[2]
    engine.add(engine.encoded(CROWD[0]))
    for _ in range(3):
        engine.step()
    assert engine.abort(CROWD[0].request_id)
    tracks = drive(engine, {0: [engine.encoded(later)]})
    np.testing.assert_array_equal(made(tracks[later.request_id]), solo(later, "torch", "fp32"))
    assert_idle(engine)


def test_what_is_heard_changes_what_is_made() -> None:
    item = request("r", frames=20, seed=3)
    variants = [item, following(item, TUNE), following(item, OTHER), replace(following(item, TUNE), prompt="")]
    assert len({alone(each, "torch").tobytes() for each in variants}) == 4


def test_each_window_hears_what_comes_then() -> None:
    item = following(long(request("r", frames=75)), TUNE)
    heard = engine_of("torch").encoded(item).melody
    assert heard is not None
    assert len(set(heard.windows)) == 3  # type: ignore[union-attr]


def test_stereo_sound_is_heard_as_the_mean_of_both_sides() -> None:
    item, engine = request("r", frames=20), engine_of("torch")
    sides = np.stack([2 * TUNE, np.zeros_like(TUNE)], axis=1)
    both = replace(item, melody=AudioPrompt(sides.astype("<f4").tobytes(), 2, RATE))
    assert engine.encoded(both) == engine.encoded(following(item, TUNE))


@pytest.mark.parametrize("sound", [np.zeros(100, np.float32), np.ones(1, np.float32)], ids=["silent", "one sample"])
def test_hardly_a_sound_is_a_melody_too(sound: NDArray[np.float32]) -> None:
    assert alone(following(request("r", frames=5), sound), "torch").shape == (4, 5)


def test_a_graph_is_not_captured_for_a_melody_model(caplog: pytest.LogCaptureFixture) -> None:
    checkpoint("torch", False)
    settings = EngineConfig(num_threads=1, graph=True, run_ahead=2, return_codes=True, prefill_rows=64)
    engine = Engine(load_model(Path(_FOLDERS.name) / "torch False", settings), settings)
    assert "not captured" in caplog.text
    item = CROWD[2]  # its melody is shorter than a window of either engine
    track = drive(engine, {0: [engine.encoded(item)]})[item.request_id]
    np.testing.assert_array_equal(made(track), solo(item, "torch", "fp32"))


# ------------------------------------------------------------------------------------------------------ at the door


def test_a_melody_that_can_not_be_followed_is_refused_and_says_why() -> None:
    engine, item = engine_of("torch"), request("r", frames=20)
    bad = TUNE.copy()
    bad[3] = np.inf
    wrong_rate = replace(item, melody=AudioPrompt(TUNE.astype("<f4").tobytes(), 1, 32_000))
    for wrong, message in [(following(item, bad), "no numbers"), (wrong_rate, "this model takes 400")]:
        with pytest.raises(InvalidRequestError, match=message) as refusal:
            engine.encoded(wrong)
        assert refusal.value.param == "melody"
    assert not engine.has_work


async def test_sound_is_heard_before_it_is_queued() -> None:
    running, item = AsyncEngine(engine_of("torch")), CROWD[0]
    try:
        chunks = [chunk async for chunk in running.generate(item)]
    finally:
        running.shutdown()
    np.testing.assert_array_equal(made(Track(chunks)), solo(item, "torch", "fp32"))


def test_rows_are_reserved_for_the_prefix() -> None:
    item = request("r", "ab", frames=20)  # three tokens, 235 of melody, 20 frames and 3 steps of delay
    engine = engine_of("torch", kv_positions=2 * 261)
    assert made(drive(engine, {0: [item]})["r"]).shape == (4, 20)
    with pytest.raises(InvalidRequestError, match="too small"):
        engine_of("torch", kv_positions=2 * 261 - 1).add(item)


def test_what_is_kept_for_a_request_goes_with_it() -> None:
    """Aborted while its prefix is worked through, between windows, or failed: nothing waits for its slot's next one."""
    for steps in (1, 3, 80):
        engine = engine_of("torch", prefill_rows=8)
        item = replace(CROWD[6], duration_s=66.01 / 50, extend_stride_s=(STRIDE + 0.01) / 50)
        engine.add(engine.encoded(item))
        for _ in range(steps):
            engine.step()
        runner: Any = engine._runner
        assert runner._known, "what it goes on from"
        assert bool(runner._prefixes._rows) == (steps < 80)
        assert engine.abort(item.request_id)
        assert (runner._known, runner._prefixes._rows) == ({}, {})
        assert_idle(engine)
