"""Decode attention: every backend equals softmax in float64, for any rows; nothing beyond a row's end is read."""

from __future__ import annotations

import importlib.util
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.kernels.decode_attention import LayerKV, check_backend, decode_attention, quantise
from tests.models.gpu.interpreter import NEEDS_TRITON, hide_triton

LONGEST = 1503
BACKENDS = ["sdpa", pytest.param("triton", marks=NEEDS_TRITON)]
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def arena(
    lengths: list[int], heads: int, dim: int, dtype: torch.dtype, int8: bool, seed: int
) -> tuple[LayerKV, Tensor]:
    """Rows one after the other with a gap of not-a-number behind each; and where they start."""
    generator = torch.Generator().manual_seed(seed)
    starts = [sum(lengths[:row]) + row for row in range(len(lengths))]
    numbers = torch.randn(2, heads, sum(lengths) + len(lengths), dim, generator=generator)
    gaps = [start + length for start, length in zip(starts, lengths, strict=True)]
    kv = LayerKV(*numbers.to(dtype).contiguous())
    if int8:
        small, scales = quantise(numbers)
        kv = LayerKV(small[0].contiguous(), small[1].contiguous(), scales)
        scales[:, :, gaps] = torch.nan
    else:
        kv.keys[:, gaps], kv.values[:, gaps] = torch.nan, torch.nan
    return kv, torch.tensor(starts, dtype=torch.int32)


def expected(query: Tensor, kv: LayerKV, starts: Tensor, lengths: list[int]) -> Tensor:
    """Row by row, as it is written in books."""
    rows = []
    for vector, start, length in zip(query.double(), starts.tolist(), lengths, strict=True):
        keys, values = (part[:, start : start + length].double() for part in (kv.keys, kv.values))
        if kv.scales is not None:
            scales = kv.scales[:, :, start : start + length, None].double()
            keys, values = keys * scales[0], values * scales[1]
        weights = (torch.einsum("hd,hnd->hn", vector, keys) / math.sqrt(vector.shape[-1])).softmax(-1)
        rows.append(torch.einsum("hn,hnd->hd", weights, values).flatten() if length else torch.zeros(vector.numel()))
    return torch.stack([row.double() for row in rows])


def attend(query: Tensor, kv: LayerKV, starts: Tensor, lengths: list[int], backend: str, longest: int) -> Tensor:
    return decode_attention(
        query, kv, starts, torch.tensor(lengths, dtype=torch.int32), backend=backend, longest=longest
    )


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(
        st.one_of(st.just(0), st.integers(1, LONGEST), st.sampled_from([1, 64, 127, 128, 129])), min_size=1, max_size=4
    ),
    heads=st.integers(1, 2),
    dim=st.sampled_from([16, 64]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    int8=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_backend_equals_softmax(
    backend: str, lengths: list[int], heads: int, dim: int, dtype: torch.dtype, int8: bool, seed: int
) -> None:
    kv, starts = arena(lengths, heads, dim, dtype, int8, seed)
    query = torch.randn(len(lengths), heads, dim, generator=torch.Generator().manual_seed(seed + 1)).to(dtype)
    made = attend(query, kv, starts, lengths, backend, max(1, *lengths))
    assert made.dtype == dtype
    wanted = expected(query, kv, starts, lengths)
    torch.testing.assert_close(made.double(), wanted, rtol=0, atol=TOLERANCE[dtype])


@NEEDS_TRITON
@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
def test_a_row_is_the_same_to_the_last_bit_alone_in_any_batch_and_in_either_launch(int8: bool) -> None:
    from models.kernels.triton.decode_attention import attend as launch

    lengths = [200, 0, 1, 333]
    kv, starts = arena(lengths, 2, 16, torch.float32, int8, 5)
    counts = torch.tensor(lengths, dtype=torch.int32)
    query = torch.randn(4, 2, 16)
    together = launch(query, kv, starts, counts, longest=400)
    assert torch.equal(launch(query, kv, starts, counts, longest=400, one_launch=False), together)
    for row in range(4):
        one = slice(row, row + 1)
        assert torch.equal(launch(query[one], kv, starts[one], counts[one], longest=1503)[0], together[row])


@NEEDS_TRITON
@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
def test_storing_inside_the_kernel_equals_storing_before(int8: bool) -> None:
    from models.kernels.triton.decode_attention import attend as launch

    lengths = [1, 128, 0, 129, 200]
    stored, starts = arena(lengths, 2, 16, torch.float32, int8, 7)
    fused = LayerKV(
        stored.keys.clone(), stored.values.clone(), None if stored.scales is None else stored.scales.clone()
    )
    counts, qkv = torch.tensor(lengths, dtype=torch.int32), torch.randn(5, 3, 2, 16)
    alive = counts > 0
    stored.write(qkv[alive][:, 1:], (starts + counts - 1)[alive].long())
    wanted = attend(qkv[:, 0], stored, starts, lengths, "triton", 300)
    made = launch(qkv[:, 0], fused, starts, counts, longest=300, new=qkv[:, 1:])
    torch.testing.assert_close(made, wanted, rtol=0, atol=1e-6)
    assert torch.equal(fused.keys.nan_to_num(), stored.keys.nan_to_num())
    assert torch.equal(fused.values.nan_to_num(), stored.values.nan_to_num())
    if fused.scales is not None and stored.scales is not None:
        assert torch.equal(fused.scales.nan_to_num(), stored.scales.nan_to_num())


def test_int8_is_closer_than_float8() -> None:
    """Why 8-bit KV is int8: the figures in `LayerKV`."""
    numbers = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
    small, scales = quantise(numbers)
    as_int8 = small.float() * scales[:, None].float()
    peak = numbers.abs().amax(-1, keepdim=True) / 448
    as_float8 = (numbers / peak).to(torch.float8_e4m3fn).float() * peak
    errors = [float((each - numbers).norm() / numbers.norm()) for each in (as_int8, as_float8)]
    assert errors[0] < 0.007
    assert errors[1] > 0.02


def test_a_vector_of_zeros_is_stored_as_zeros() -> None:
    small, scales = quantise(torch.zeros(2, 8))
    assert not small.any()
    assert not scales.any()


def test_backends_that_can_not_be_are_refused_with_advice() -> None:
    with pytest.raises(ValueError, match="triton, sdpa, xformers"):
        check_backend("flash", 64)
    kv, starts = arena([1], 1, 8, torch.float32, False, 0)
    with pytest.raises(ValueError, match="triton, sdpa, xformers"):
        attend(torch.zeros(1, 1, 8), kv, starts, [1], "flash", 1)
    check_backend("sdpa", 24)


@NEEDS_TRITON
def test_a_head_dimension_that_is_no_power_of_two_is_refused() -> None:
    with pytest.raises(ValueError, match="use 'sdpa'"):
        check_backend("triton", 24)


def test_without_triton_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_triton(monkeypatch)
    with pytest.raises(ImportError, match="choose attention 'sdpa'"):
        check_backend("triton", 64)


@pytest.mark.skipif(importlib.util.find_spec("xformers") is not None, reason="xformers is installed")
def test_without_xformers_the_message_says_what_to_do() -> None:
    with pytest.raises(ImportError, match="choose 'triton' or 'sdpa'"):
        check_backend("xformers", 64)
