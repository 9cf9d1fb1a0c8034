"""Kernels against torch's own, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from models.config import DecoderConfig
from models.engine.sampler import SamplingBatch, sample
from models.engine.sequence import Sequence
from models.engine.static_buffers import Buffers, Control
from models.engine.static_sampler import TorchSampler
from models.kernels.cpu.packing import quantise
from models.musicgen.rows import RowHandle
from models.musicgen.static_cache import StaticKVCache
from models.types import MAX_SEED, GenerationRequest, SamplingParams
from tests.models.gpu.interpreter import NEEDS_TRITON

K, V = 4, 64
CONFIG = DecoderConfig(
    hidden_size=16,
    num_layers=1,
    num_heads=2,
    ffn_dim=32,
    num_codebooks=K,
    vocab_size=V,
    audio_channels=1,
    text_hidden_size=12,
)
# The interpreter has no bfloat16 of its own: products in it are checked on a GPU.
TYPES = [torch.float32, torch.float16]


@NEEDS_TRITON
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "width"), [(1, 32), (5, 48), (20, 100)])
def test_the_norm_of_a_sum(rows: int, width: int, dtype: torch.dtype) -> None:
    from models.kernels.triton.layers import add_norm

    residual, update = torch.randn(2, rows, width, generator=torch.Generator().manual_seed(0)).to(dtype).unbind(0)
    weight, bias = torch.randn(2, width, generator=torch.Generator().manual_seed(1)).to(dtype).unbind(0)
    plain = add_norm(residual.clone(), None, weight, bias)
    torch.testing.assert_close(plain, F.layer_norm(residual, (width,), weight, bias), rtol=2e-3, atol=2e-3)
    summed = residual.clone()
    made = add_norm(summed, update, weight, bias)
    assert torch.equal(summed, residual + update)
    torch.testing.assert_close(made, F.layer_norm(summed, (width,), weight, bias), rtol=2e-3, atol=2e-3)


@NEEDS_TRITON
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 32, 96), (3, 200, 40), (16, 48, 100)])
def test_the_product_of_few_rows(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> None:
    from models.kernels.triton.layers import skinny_linear

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, inputs, generator=generator).to(dtype)
    weight = (torch.randn(outputs, inputs, generator=generator) / inputs**0.5).to(dtype)
    scale, shift = torch.randn(2, inputs, generator=generator).to(dtype).unbind(0)
    residual = torch.randn(rows, outputs, generator=generator).to(dtype)
    near = 4e-3 if dtype == torch.float16 else 1e-5
    torch.testing.assert_close(skinny_linear(x, weight), F.linear(x, weight), rtol=near, atol=near)
    normal = F.layer_norm(x, (inputs,), scale, shift)
    made = skinny_linear(x, weight, norm=(scale, shift), gelu=True)
    torch.testing.assert_close(made, F.gelu(F.linear(normal, weight)), rtol=near, atol=near)
    wanted = residual + F.linear(x, weight)
    assert skinny_linear(x, weight, residual=residual) is residual
    torch.testing.assert_close(residual, wanted, rtol=near, atol=near)


@NEEDS_TRITON
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(3, 40, 20), (70, 48, 36)])
def test_the_product_with_weights_in_eight_bits(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> None:
    """More rows than a tile has, and neither inputs nor outputs a multiple of anything."""
    from models.kernels.triton.layers import skinny_linear

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, inputs, generator=generator).to(dtype)
    rounded = quantise(torch.randn(outputs, inputs, generator=generator) / inputs**0.5, "int8")
    residual = torch.randn(rows, outputs, generator=generator).to(dtype)
    product = F.linear(x.float(), rounded.dequantise())
    near = 4e-3 if dtype == torch.float16 else 1e-5
    made = skinny_linear(x, rounded.levels, scales=rounded.scales[:, 0], gelu=True)
    torch.testing.assert_close(made.float(), F.gelu(product), rtol=near, atol=near)
    skinny_linear(x, rounded.levels, scales=rounded.scales[:, 0], residual=(made := residual.clone()))
    torch.testing.assert_close(made.float(), residual.float() + product, rtol=near, atol=near)


# -------------------------------------------------------------------------------------------------------- sampling

PARAMS = [
    SamplingParams(),
    SamplingParams(top_k=5),
    SamplingParams(top_p=0.5, guidance=1.0),
    SamplingParams(greedy=True),
    SamplingParams(top_k=0, temperature=0.7),
    SamplingParams(top_p=1.0, temperature=2.0),
    SamplingParams(top_k=1),
    SamplingParams(temperature=1e-9),
]
SLOTS, ROWS = 9, 16


class Step:
    """Requests in the middle of their tracks, laid out for one step."""

    def __init__(self, seed: int) -> None:
        self.cache = StaticKVCache(CONFIG, 1000, 64, "cpu", torch.float32)
        host = Control(ROWS, SLOTS, "cpu")
        host.clear_layout(ROWS)
        host.describe_nobody(self.cache)
        self.steps = torch.tensor([seed * 6 + lane for lane in range(len(PARAMS))])
        self.sequences = [self._sequence(lane, seed) for lane in range(len(PARAMS))]
        for sequence in self.sequences:
            host.describe(sequence, self.cache, V)
        host.lay_out(self.sequences, ROWS)
        self.buffers = Buffers.of(CONFIG, ROWS, SLOTS, 60, "cpu")
        self.buffers.control.copy_from(host)
        self.slots = [each.slot for each in self.sequences]
        self.buffers.steps[self.slots] = self.steps

    def _sequence(self, lane: int, seed: int) -> Sequence[RowHandle]:
        request = GenerationRequest(str(lane), "x", 1.0, (seed * 77 + lane * 2**60) % MAX_SEED, PARAMS[lane])
        sequence = Sequence[RowHandle](request, 30, 3, slot=SLOTS - 1 - lane)
        sequence.rows = tuple(self.cache.allocate(33) for _ in range(sequence.num_rows))
        return sequence

    def reference(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the ordinary sampler makes of it, the delay pattern applied."""
        guided = [lane for lane, each in enumerate(self.sequences) if each.num_rows == 2]
        null_rows = list(range(len(PARAMS)))
        for row, lane in enumerate(guided, start=len(PARAMS)):
            null_rows[lane] = row
        seeds = [each.request.seed for each in self.sequences]
        batch = SamplingBatch.build(PARAMS, seeds, null_rows, num_codebooks=K, vocab_size=V)
        codes, finite = sample(logits[: len(PARAMS) + len(guided)].clone(), self.steps + 1, batch)
        frames = self.steps[:, None] - torch.tensor(CONFIG.delays)
        return codes.masked_fill((frames < 0) | (frames >= 30), V), finite

    def sampled(self) -> torch.Tensor:
        return self.buffers.history[self.slots, self.steps + 1]

    def run(self, logits: torch.Tensor, kernel: bool) -> None:
        if not kernel:
            TorchSampler(self.buffers, V, V).sample(logits)
            return
        from models.kernels.triton.sampling import sample_step

        own = self.buffers
        control = own.control
        sample_step(
            logits, control.layout, control.integers, control.numbers, own.steps, own.history, own.broken, own.delays
        )


KERNEL = [False, pytest.param(True, marks=NEEDS_TRITON)]


@pytest.mark.parametrize("kernel", KERNEL, ids=["torch", "triton"])
@pytest.mark.parametrize("seed", range(6))
def test_codes_are_those_of_the_ordinary_sampler(seed: int, kernel: bool) -> None:
    """From a track's first steps, where the pattern begins, to beyond its last."""
    step = Step(seed)
    logits = 2 * torch.randn(ROWS, K, V, generator=torch.Generator().manual_seed(seed))
    wanted, _ = step.reference(logits)
    step.run(logits, kernel)
    assert torch.equal(step.sampled(), wanted)
    assert not step.buffers.broken[step.slots].any()


@pytest.mark.parametrize("kernel", KERNEL, ids=["torch", "triton"])
def test_ties_with_the_kth_stay(kernel: bool) -> None:
    """All tokens equally likely: top-k drops none of them, top-p the later ones."""
    step = Step(1)
    logits = torch.zeros(ROWS, K, V)
    wanted, _ = step.reference(logits)
    step.run(logits, kernel)
    assert torch.equal(step.sampled(), wanted)


@pytest.mark.parametrize("kernel", KERNEL, ids=["torch", "triton"])
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # numpy's, in the interpreter
@pytest.mark.filterwarnings("ignore:All-NaN:RuntimeWarning")
def test_logits_that_are_not_finite_are_noted_for_their_request_only(poison: float, kernel: bool) -> None:
    step = Step(2)
    logits = torch.randn(ROWS, K, V, generator=torch.Generator().manual_seed(3))
    clean, _ = step.reference(logits)
    logits[4, 2, 5] = poison
    _, finite = step.reference(logits)
    step.run(logits, kernel)
    noted = step.buffers.broken[step.slots]
    assert torch.equal(noted > 0, ~finite)
    assert noted[4] == step.steps[4] + 1
    others = [lane for lane in range(len(PARAMS)) if lane != 4]
    assert torch.equal(step.sampled()[others], clean[others])
