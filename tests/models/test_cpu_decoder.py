"""The decoder on the CPU kernel against the one in torch: fp32 the same numbers, the others within their rounding."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.checkpoint import Checkpoint, load_checkpoint
from models.config import DecoderConfig
from models.engine.engine import Engine
from models.engine.loader import build_decoder, build_model
from models.engine_config import WEIGHT_FORMATS, EngineConfig
from models.errors import InvalidRequestError
from models.kernels.cpu import build as building
from models.kernels.cpu.library import kernel
from models.musicgen.cpu_decoder import CpuDecoder, why_unsupported
from models.musicgen.decoder import MusicGenDecoder
from models.musicgen.interface import StepDecoder
from models.musicgen.weights import rounded_state
from models.types import GenerationRequest, SamplingParams
from tests.factories import make_checkpoint

LONGEST = 1504  # positions of 30 s
# Of the logits against torch's float32 on the same rounded weights (norm of the difference over norm): in fp32 sums are
# in another order, in the others activations, keys and values are rounded to bfloat16.
BOUNDS = {"fp32": 1e-5, "bf16": 0.04, "int8": 0.04, "int4": 0.04}


@pytest.fixture(scope="module", params=[(64, 4), (192, 2)], ids=["heads of 16", "heads of 96"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    hidden, heads = request.param
    folder = tmp_path_factory.mktemp("cpu")
    return load_checkpoint(make_checkpoint(folder, hidden=hidden, layers=2, heads=heads, ffn=256, seed=3))


def random_codes(steps: int, seed: int = 0) -> Tensor:
    return torch.randint(65, (steps, 4), generator=torch.Generator().manual_seed(seed))


def random_text(tokens: int, seed: int = 0) -> Tensor:
    return torch.randn(tokens, 32, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def alone(decoder: StepDecoder, codes: Tensor, text: Tensor | None) -> Tensor:
    """Logits [steps, K, V] of one row."""
    cache = decoder.new_cache(len(codes), 1)
    row = cache.allocate(len(codes))
    if text is not None:
        cache.set_cross(row, decoder.cross_kv(decoder.project_text(text)))
    view = cache.view([row])
    made = [decoder.forward_step(codes[s : s + 1], torch.tensor([s]), view).clone() for s in range(len(codes))]
    return torch.cat(made)


def error(made: Tensor, wanted: Tensor) -> float:
    return float((made - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("variant", building.VARIANTS)
@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
@pytest.mark.parametrize("text", [random_text(21), random_text(1), None], ids=["text", "one token", "null"])
def test_logits_are_torchs(checkpoint: Checkpoint, weights: str, variant: str, text: Tensor | None) -> None:
    codes = random_codes(70)
    same = checkpoint
    if weights in ("int8", "int4"):
        same = replace(checkpoint, decoder_state=rounded_state(checkpoint.decoder_state, weights))
    wanted = alone(MusicGenDecoder.from_checkpoint(same), codes, text)
    made = alone(CpuDecoder.from_checkpoint(checkpoint, weights, kernel(variant)), codes, text)
    assert error(made, wanted) < BOUNDS[weights]


def test_every_position_of_thirty_seconds(checkpoint: Checkpoint) -> None:
    codes, text = random_codes(LONGEST), random_text(9)
    wanted = alone(MusicGenDecoder.from_checkpoint(checkpoint), codes, text)
    made = alone(CpuDecoder.from_checkpoint(checkpoint), codes, text)
    torch.testing.assert_close(made, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
@torch.inference_mode()
def test_rows_that_come_and_go_are_the_same_to_the_last_bit_as_alone(checkpoint: Checkpoint, weights: str) -> None:
    decoder = CpuDecoder.from_checkpoint(checkpoint, weights)
    lengths = (40, 25, 31, 12, 33)
    texts = (random_text(7, 1), None, random_text(17, 2), None, random_text(16, 3))
    codes = [random_codes(length, seed) for seed, length in enumerate(lengths)]
    wanted = [alone(decoder, *row) for row in zip(codes, texts, strict=True)]
    cache = decoder.new_cache(sum(lengths), len(lengths))
    rows = [cache.allocate(length) for length in lengths]
    for row, text in zip(rows, texts, strict=True):
        if text is not None:
            cache.set_cross(row, decoder.cross_kv(decoder.project_text(text)))
    for turn in range(40 + 6 * len(rows)):  # each row joins six steps after the one before it, and leaves at its end
        active = [i for i, length in enumerate(lengths) if 0 <= turn - 6 * i < length]
        positions = [turn - 6 * i for i in active]
        if not active:
            continue
        batch = torch.stack([codes[i][p] for i, p in zip(active, positions, strict=True)])
        made = decoder.forward_step(batch, torch.tensor(positions), cache.view([rows[i] for i in active]))
        for i, p, logits in zip(active, positions, made, strict=True):
            assert torch.equal(logits, wanted[i][p]), f"row {i} at {p}"


@torch.inference_mode()
def test_a_row_that_takes_a_freed_place_hears_nothing_of_its_former_owner(checkpoint: Checkpoint) -> None:
    decoder = CpuDecoder.from_checkpoint(checkpoint, "int8")
    codes = random_codes(30, 5)
    wanted = alone(decoder, codes, None)
    cache = decoder.new_cache(32, 1)
    for tenant in range(2):
        row = cache.allocate(30)
        view = cache.view([row])
        made = [decoder.forward_step(codes[s : s + 1], torch.tensor([s]), view).clone() for s in range(30)]
        assert torch.equal(torch.cat(made), wanted), f"tenant {tenant}"
        cache.free(row)
        cache.check_integrity()


@torch.inference_mode()
def test_engines_share_weights_and_no_rows(checkpoint: Checkpoint) -> None:
    decoder = CpuDecoder.from_checkpoint(checkpoint)
    codes = [random_codes(20, 1), random_codes(20, 2)]
    wanted = [alone(decoder, each, None) for each in codes]
    caches = [decoder.new_cache(positions, 1) for positions in (20, 400)]
    views = [cache.view([cache.allocate(20)]) for cache in caches]
    for step in range(20):
        for mine, view, logits in zip(codes, views, wanted, strict=True):
            made = decoder.forward_step(mine[step : step + 1], torch.tensor([step]), view)
            assert torch.equal(made[0], logits[step])


def test_what_a_step_reads_is_counted(checkpoint: Checkpoint) -> None:
    read = {weights: CpuDecoder.from_checkpoint(checkpoint, weights).step_bytes for weights in WEIGHT_FORMATS}
    assert read["fp32"] == 2 * read["bf16"] > 3.5 * read["int8"] > 5 * read["int4"]


# ------------------------------------------------------------------------------------------------ choosing it


def shape(hidden: int = 64, heads: int = 4, ffn: int = 128, vocab: int = 64) -> DecoderConfig:
    return DecoderConfig(hidden, 1, heads, ffn, 4, vocab, 1, 32)


def test_shapes_it_can_not_run_are_named() -> None:
    assert why_unsupported(shape()) is None
    assert "hidden_size = 48" in str(why_unsupported(shape(hidden=48)))
    assert "ffn_dim = 100" in str(why_unsupported(shape(ffn=100)))
    assert "the heads' size 8" in str(why_unsupported(shape(heads=8)))
    assert "the heads' size 256" in str(why_unsupported(shape(hidden=256, heads=1)))
    assert "vocabulary" in str(why_unsupported(shape(vocab=63)))


@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
def test_where_it_can_not_run_torch_computes_the_same_weights(
    checkpoint: Checkpoint, weights: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    codes, text = random_codes(40), random_text(5)
    config = EngineConfig(weights=weights)
    native = build_decoder(checkpoint, config)
    assert isinstance(native, CpuDecoder)
    monkeypatch.setattr("models.engine.loader.library.why_unavailable", lambda: "no C++ compiler")
    with caplog.at_level(logging.WARNING):
        plain = build_decoder(checkpoint, config)
    assert isinstance(plain, MusicGenDecoder)
    assert "no C++ compiler" in caplog.text
    assert error(alone(plain, codes, text), alone(native, codes, text)) < (1e-5 if weights == "fp32" else 0.05)


@pytest.mark.parametrize(
    "settings", [{"weights": "int3"}, {"weights": 8}, {"weights": "int8", "device": "cuda"}], ids=str
)
def test_unknown_formats_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError, match="weights must be"):
        EngineConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
def test_the_engines_promises_hold_in_every_format(weights: str, tmp_path: Path) -> None:
    """Batched = alone, token for token and sample for sample, sampled, with mixed lengths."""
    loaded = load_checkpoint(make_checkpoint(tmp_path, hidden=64, layers=2, heads=4, ffn=128, seed=9))
    config = EngineConfig(weights=weights, max_rows=8, return_codes=True)
    model = build_model(loaded, config)
    requests = [
        GenerationRequest(
            f"r{i}", "" if i == 2 else f"music {i}", 0.3 + 0.17 * i, seed=i, sampling=SamplingParams(top_k=9)
        )
        for i in range(4)
    ]
    wanted = {
        request.request_id: b"".join(c.pcm for c in Engine(model, config).generate(request)) for request in requests
    }
    engine, made = Engine(model, config), dict.fromkeys(wanted, b"")
    for request in requests:
        engine.add(request)
    while engine.has_work:
        for output in engine.step():
            assert not isinstance(output.news, Exception)
            made[output.request_id] += output.news.pcm
    assert made == wanted
