"""The trained stereo checkpoint follows a tune, plays each stem where it belongs, and goes on from its own codes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from transformers import MusicgenMelodyForConditionalGeneration

from models.catalog import TINY_MELODY, TINY_MELODY_PATH, describe
from models.engine.engine import Engine
from models.engine.loader import load_model
from models.engine_config import EngineConfig
from models.tiny.composer.captions import full_prompt
from models.tiny.composer.instruments import SAMPLE_RATE
from models.tiny.composer.score import Piece
from models.tiny.composer.stereo import tune
from models.tiny.training.analysis import Array, validity
from models.tiny.training.evaluate import held_out_pieces
from models.tiny.training.evaluate_melody import follows
from models.tiny.training.melody_data import FULL_CLIP
from models.types import AudioPrompt, CodePrompt, GenerationRequest

SECONDS = 8.0


@pytest.fixture(scope="module")
def engine() -> Engine:
    config = EngineConfig(weights="int8", max_rows=16, return_codes=True)
    return Engine(load_model(TINY_MELODY_PATH, config), config)


@pytest.fixture(scope="module")
def pieces() -> list[Piece]:
    return [piece for piece in held_out_pieces(60) if piece.lead and not piece.builds][:8]


def sung(piece: Piece) -> AudioPrompt:
    wave = tune(piece, FULL_CLIP, "strings").astype("<f4")
    return AudioPrompt(wave.tobytes(), 1, SAMPLE_RATE)


def prompt_of(piece: Piece) -> str:
    return f"{full_prompt(piece, np.random.default_rng([piece.seed, 7]))}, with a melody"


def make(engine: Engine, requests: Sequence[GenerationRequest]) -> dict[str, tuple[Array, bytes]]:
    """Samples float64 [2, n] and codes of each request."""
    pcm, codes = ({request.request_id: b"" for request in requests} for _ in range(2))
    for request in requests:
        engine.add(engine.encoded(request))
    while engine.has_work:
        for output in engine.step():
            assert not isinstance(output.news, Exception)
            pcm[output.request_id] += output.news.pcm
            codes[output.request_id] = output.news.codes or b""
    sides = {name: np.frombuffer(made, "<f4").astype(np.float64).reshape(-1, 2).T for name, made in pcm.items()}
    return {name: (sides[name], codes[name]) for name in pcm}


def test_transformers_finds_nothing_missing_but_the_encoder_of_audio() -> None:
    _, told = MusicgenMelodyForConditionalGeneration.from_pretrained(
        TINY_MELODY_PATH, dtype=torch.float32, output_loading_info=True
    )
    assert told["unexpected_keys"] == set() == told["mismatched_keys"]
    assert all("audio_encoder.encoder." in name for name in told["missing_keys"])


def test_a_tune_is_followed_on_the_right(engine: Engine, pieces: list[Piece]) -> None:
    requests = [
        GenerationRequest(str(i), prompt_of(piece), SECONDS, seed=i, melody=sung(piece))
        for i, piece in enumerate(pieces)
    ]
    made = make(engine, requests)
    right = [made[str(i)][0][1] for i in range(len(pieces))]
    songs = [tune(piece, FULL_CLIP, piece.family) for piece in pieces]
    own = np.mean([follows(heard, song) for heard, song in zip(right, songs, strict=True)])
    unrelated = np.mean([follows(heard, song) for heard, song in zip(right, songs[1:] + songs[:1], strict=True)])
    assert own > unrelated + 0.1
    assert all(validity(side).ok for sides, _ in made.values() for side in sides)


def test_the_sides_differ_by_harmony_and_lead_only(engine: Engine, pieces: list[Piece]) -> None:
    alone = make(engine, [GenerationRequest("bare", prompt_of(pieces[0]), SECONDS, seed=5)])
    (left, right), codes = alone["bare"]
    drums_left, drums_right = np.frombuffer(codes, "<i8").reshape(8, -1)[:2]
    assert np.mean(drums_left == drums_right) > 0.9
    assert np.abs(left - right).max() > 0.05


def test_it_goes_on_from_its_own_codes(engine: Engine, pieces: list[Piece]) -> None:
    first, codes = make(engine, [GenerationRequest("first", prompt_of(pieces[0]), 2.0, seed=5)])["first"]
    request = GenerationRequest("on", prompt_of(pieces[0]), 4.0, seed=9, continues=CodePrompt(codes, 8))
    sides, gone_on = make(engine, [request])["on"]
    assert np.array_equal(
        np.frombuffer(gone_on, "<i8").reshape(8, -1)[:, :100], np.frombuffer(codes, "<i8").reshape(8, -1)
    )
    assert np.abs(sides[:, first.shape[1] :]).max() > 0.01


def test_the_catalog_knows_what_it_takes() -> None:
    spec = describe(TINY_MELODY_PATH)
    assert (spec.id, spec.channels, spec.num_codebooks, spec.licence) == (TINY_MELODY, 2, 8, "Apache-2.0")
    assert spec.takes_melody
    assert not spec.goes_on_from_audio
