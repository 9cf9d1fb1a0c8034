"""Weights in eight bits: the step computes with the numbers they stand for, and those are near the exact ones."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from models.checkpoint import Checkpoint, load_checkpoint
from models.engine.engine import Engine
from models.engine.loader import build_model
from models.engine_config import EngineConfig
from models.musicgen.static_decoder import StaticDecoder, StaticOptions, StepRows
from models.musicgen.static_layers import Matrix
from models.musicgen.weights import rounded_state
from tests.factories import make_checkpoint
from tests.models.engine_support import assert_idle, drive
from tests.models.gpu.interpreter import NEEDS_TRITON
from tests.models.test_engine_batching import VARIED

POSITIONS = 4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("model")
    return load_checkpoint(
        make_checkpoint(folder, hidden=64, layers=2, heads=4, ffn=128, vocab=64, ratios=(4, 2), filters=2)
    )


def logits(checkpoint: Checkpoint, options: StaticOptions, rows: int = 2) -> Tensor:
    """float32 [positions, R, K, V] of rows without a text, each with codes of its own."""
    decoder = StaticDecoder.from_checkpoint(checkpoint, "cpu", torch.float32, options)
    cache = decoder.new_cache(rows * POSITIONS, rows)
    starts = torch.tensor([cache.allocate(POSITIONS).start for _ in range(rows)])
    codes = torch.randint(64, (POSITIONS, rows, 4), generator=torch.Generator().manual_seed(0))
    seen = []
    for position in range(POSITIONS):
        nothing = torch.zeros(rows, dtype=torch.int32)
        lengths = torch.full((rows,), position + 1, dtype=torch.int32)
        step = StepRows(starts + position, starts.int(), lengths, nothing, nothing, POSITIONS)
        seen.append(decoder.forward(codes[position], torch.full((rows,), position), step, cache))
    return torch.stack(seen)


INT8 = StaticOptions("sdpa", "torch", weights="int8")


def test_the_step_computes_with_the_numbers_that_int8_stands_for(checkpoint: Checkpoint) -> None:
    rounded = dataclasses.replace(checkpoint, decoder_state=rounded_state(checkpoint.decoder_state, "int8"))
    wanted = logits(rounded, StaticOptions("sdpa", "torch"))
    torch.testing.assert_close(logits(checkpoint, INT8), wanted, rtol=0, atol=1e-4)


def test_and_they_are_near_the_exact_ones(checkpoint: Checkpoint) -> None:
    """Random weights, spread like a bell, are the hard case: theirs are wrong by 0.5 % (rms)."""
    exact = logits(checkpoint, StaticOptions("sdpa", "torch"))
    error = float((logits(checkpoint, INT8) - exact).norm() / exact.norm())
    assert 0 < error < 0.02


@NEEDS_TRITON
@pytest.mark.parametrize("rows", [2, 18])
def test_our_kernels_read_int8_at_any_number_of_rows(checkpoint: Checkpoint, rows: int) -> None:
    made = logits(checkpoint, dataclasses.replace(INT8, layers="triton"), rows)
    torch.testing.assert_close(made, logits(checkpoint, INT8, rows), rtol=0, atol=1e-4)


def test_half_the_bytes_and_a_scale_for_each_output() -> None:
    weight = torch.randn(32, 64)
    exact, small = Matrix.of(weight, torch.bfloat16, "model"), Matrix.of(weight, torch.bfloat16, "int8")
    assert small.scales is not None
    assert (small.numbers.nbytes, small.scales.shape) == (exact.numbers.nbytes // 2, (32,))


def test_an_engine_makes_music_with_it(checkpoint: Checkpoint) -> None:
    config = EngineConfig(graph=True, weights="int8", run_ahead=1, return_codes=True, num_threads=1)
    engine = Engine(build_model(checkpoint, config), config)
    tracks = drive(engine, {0: VARIED})
    assert all(tracks[item.request_id].is_complete for item in VARIED)
    assert_idle(engine)


def test_the_settings_reach_the_weights(checkpoint: Checkpoint) -> None:
    for weights, dtype in (("int8", torch.int8), ("bf16", torch.bfloat16), ("fp32", torch.float32)):
        decoder = build_model(checkpoint, EngineConfig(graph=True, weights=weights)).decoder
        assert isinstance(decoder, StaticDecoder)
        assert decoder._weights.heads.numbers.dtype == dtype
