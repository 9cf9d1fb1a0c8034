"""The decoder step by step against transformers' decoder in one pass, and rows against the batch they are in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import MusicgenForConditionalGeneration
from transformers.models.musicgen.modeling_musicgen import MusicgenSinusoidalPositionalEmbedding

from models.checkpoint import Checkpoint, load_checkpoint
from models.musicgen.decoder import INVARIANT_ROWS, MusicGenDecoder, sinusoid
from models.musicgen.kv_cache import KVCache
from tests.factories import make_checkpoint

LONGEST = 1504  # positions of 30 s, step 0 to step 1503


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("decoder"), hidden=48, layers=2, heads=2, ffn=64, seed=7)


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Checkpoint:
    return load_checkpoint(folder)


@pytest.fixture(scope="module")
def decoder(checkpoint: Checkpoint) -> MusicGenDecoder:
    return MusicGenDecoder.from_checkpoint(checkpoint)


def random_codes(steps: int, seed: int = 0) -> Tensor:
    """int64 [steps, K], special tokens among them."""
    return torch.randint(65, (steps, 4), generator=torch.Generator().manual_seed(seed))


def random_text(tokens: int, seed: int = 0) -> Tensor:
    return torch.randn(tokens, 32, generator=torch.Generator().manual_seed(seed))


def cache_dtype(decoder: MusicGenDecoder) -> torch.dtype:
    return torch.promote_types(decoder.embedding.dtype, torch.float32)


@torch.inference_mode()
def alone(decoder: MusicGenDecoder, codes: Tensor, text: Tensor | None) -> Tensor:
    """Logits [steps, K, V] of one row."""
    cache = KVCache(decoder.config, len(codes), dtype=cache_dtype(decoder))
    row = cache.allocate(len(codes))
    if text is not None:
        cache.set_cross(row, decoder.cross_kv(decoder.project_text(text)))
    view = cache.view([row])
    return torch.cat([decoder.forward_step(codes[s : s + 1], torch.tensor([s]), view) for s in range(len(codes))])


@pytest.mark.parametrize("with_text", [True, False])
@torch.inference_mode()
def test_every_position_of_thirty_seconds_equals_transformers(
    folder: Path, checkpoint: Checkpoint, with_text: bool
) -> None:
    """In float64, so that what is left is the arithmetic and not its rounding."""
    model: Any = MusicgenForConditionalGeneration.from_pretrained(folder, dtype=torch.float64).eval()
    codes, text = random_codes(LONGEST), random_text(9).double()
    states = model.enc_to_dec_proj(text)[None] if with_text else torch.zeros(1, 1, 48, dtype=torch.float64)
    theirs = model.decoder(input_ids=codes.T, encoder_hidden_states=states, use_cache=False).logits  # [K, steps, V]
    ours = alone(MusicGenDecoder.from_checkpoint(checkpoint, dtype=torch.float64), codes, text if with_text else None)
    torch.testing.assert_close(ours, theirs.transpose(0, 1).float(), rtol=1e-5, atol=1e-6)


@torch.inference_mode()
def test_rows_of_any_position_and_text_step_together(decoder: MusicGenDecoder) -> None:
    lengths = (40, 25, 31, 12)
    texts = (random_text(7, 1), None, random_text(3, 2), None)
    codes = [random_codes(length, seed) for seed, length in enumerate(lengths)]
    wanted = [alone(decoder, *row) for row in zip(codes, texts, strict=True)]
    cache = KVCache(decoder.config, sum(lengths))
    rows = [cache.allocate(length) for length in lengths]
    for row, text in zip(rows, texts, strict=True):
        if text is not None:
            cache.set_cross(row, decoder.cross_kv(decoder.project_text(text)))
    for turn in range(40 + 6 * len(rows)):  # each row joins six steps after the one before it, and leaves at its end
        active = [i for i, length in enumerate(lengths) if 0 <= turn - 6 * i < length]
        if not active:
            continue
        positions = [turn - 6 * i for i in active]
        batch = torch.stack([codes[i][p] for i, p in zip(active, positions, strict=True)])
        made = decoder.forward_step(batch, torch.tensor(positions), cache.view([rows[i] for i in active]))
        for i, p, logits in zip(active, positions, made, strict=True):
            torch.testing.assert_close(logits, wanted[i][p], rtol=1e-4, atol=1e-5)


def test_a_padded_row_is_the_same_to_the_last_bit_alone_and_in_any_batch(folder: Path) -> None:
    """On CPUs in float32 the engine pads its rows to a multiple of INVARIANT_ROWS, which makes this exact."""
    decoder = MusicGenDecoder.from_checkpoint(load_checkpoint(folder), row_multiple=INVARIANT_ROWS)
    codes = random_codes(11)
    texts = [random_text(3 + row, row) if row % 3 else None for row in range(11)]
    with torch.inference_mode():
        solo = [alone(decoder, codes[place : place + 1], texts[place]) for place in range(11)]
        for size in range(1, 12):
            cache = KVCache(decoder.config, 64)
            rows = [cache.allocate(2) for _ in range(size)]
            for row, text in zip(rows, texts, strict=False):
                if text is not None:
                    cache.set_cross(row, decoder.cross_kv(decoder.project_text(text)))
            positions = torch.zeros(size, dtype=torch.long)
            together = decoder.forward_step(codes[:size], positions, cache.view(rows))
            for place in range(size):
                assert torch.equal(together[place], solo[place][0]), f"row {place} of {size}"


def test_positions_are_those_of_transformers_to_the_last_bit() -> None:
    for width in (16, 192, 1024):
        assert torch.equal(
            sinusoid(LONGEST, width), MusicgenSinusoidalPositionalEmbedding.get_embedding(LONGEST, width)
        )


def test_text_speaks_and_its_bias_does_not_reach_the_null_row(decoder: MusicGenDecoder) -> None:
    codes = random_codes(5)
    null = alone(decoder, codes, None)
    assert not torch.allclose(alone(decoder, codes, random_text(4)), null, atol=1e-2)
    # Zeros through the projection leave the bias, which is another condition than none.
    assert not torch.allclose(alone(decoder, codes, torch.zeros(4, 32)), null, atol=1e-3)


def test_bfloat16_is_float32_but_for_rounding(checkpoint: Checkpoint, decoder: MusicGenDecoder) -> None:
    half = MusicGenDecoder.from_checkpoint(checkpoint, dtype=torch.bfloat16)
    assert {each.dtype for each in half.parameters()} == {torch.bfloat16}
    assert half.sinusoid.dtype == torch.float32
    exact, rounded = alone(decoder, random_codes(50), random_text(6)), alone(half, random_codes(50), random_text(6))
    assert rounded.dtype == torch.float32
    assert (rounded - exact).norm() < 0.1 * exact.norm()


def test_weights_are_frozen(decoder: MusicGenDecoder) -> None:
    assert not decoder.training
    assert not any(each.requires_grad for each in decoder.parameters())
