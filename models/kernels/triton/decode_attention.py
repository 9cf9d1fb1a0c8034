# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-calls=False
"""Decode attention in Triton: each row is cut into parts of a fixed size, and these are added up in order.

The size of a part is fixed, and a row's parts are reduced first to last, so a row's result depends on nothing but the
row: not on the batch, not on the bucket, not on which part was done first. Nothing beyond a row's length is read.

    grid (row, head, part):  |part 0|part 1|part 2|..   -> (maximum, sum, weighted values) each, float32
    the part that is done last adds all of them up (or a second kernel does)

With ``STORE`` the part that holds a row's last position takes its key and value from the projection and writes
them into the arena itself, 8-bit or not, so that no kernel of its own does it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.kernels.decode_attention import LayerKV, softmax_scale
from models.kernels.triton.compiler import cdiv, jit, tl

SPLIT = 128
"""Positions in a part. One guided stream of musicgen-small is 32 heads × rows: parts must be small to fill a GPU."""
_BLOCK = 64
_WARPS = 4
_LOG2_E = 1.4426950408889634
_SMALLEST_DIM = 8


@dataclass(frozen=True, slots=True)
class Workspace:
    """Room for partial results of up to R rows, kept between calls.

    Attributes:
        sums: float32 [R, H, parts, Dh]
        stats: float32 [R, H, parts, 2]: the maximum, and the sum of exponentials.
        done: int32 [R, H]: parts that are finished; 0 between calls.
    """

    sums: Tensor
    stats: Tensor
    done: Tensor

    @classmethod
    def of(cls, rows: int, heads: int, head_dim: int, longest: int, device: torch.device | str) -> Workspace:
        parts = cdiv(longest, SPLIT)
        return cls(
            torch.empty(rows, heads, parts, head_dim, device=device),
            torch.empty(rows, heads, parts, 2, device=device),
            torch.zeros(rows, heads, dtype=torch.int32, device=device),
        )


def check_head_dim(head_dim: int) -> None:
    """
    Raises:
        ValueError: the kernel does not do this head dimension.
    """
    if head_dim < _SMALLEST_DIM or head_dim & (head_dim - 1):
        raise ValueError(f"attention 'triton' needs a power of two of at least 8 per head, got {head_dim}: use 'sdpa'")


def attend(
    query: Tensor,
    kv: LayerKV,
    starts: Tensor,
    lengths: Tensor,
    *,
    longest: int,
    workspace: Workspace | None = None,
    one_launch: bool = True,
) -> Tensor:
    """See `models.kernels.decode_attention.decode_attention`.

    Args:
        one_launch: the part that ends last adds up, instead of a second kernel; the order is the same.
    """
    return _launch(query, None, kv, starts, lengths, longest, workspace, one_launch)


def store_and_attend(
    qkv: Tensor,
    kv: LayerKV,
    starts: Tensor,
    lengths: Tensor,
    *,
    longest: int,
    workspace: Workspace | None = None,
    one_launch: bool = True,
) -> Tensor:
    """`LayerKV.write` of the last position of each row, and attention to all of them, in one kernel.

    Args:
        qkv: [R, 3, H, Dh] of the new position.
        lengths: int32 [R], the new position counted; where it is 0 nothing is written.

    Returns:
        [R, H · Dh]
    """
    return _launch(qkv[:, 0], qkv, kv, starts, lengths, longest, workspace, one_launch)


def _launch(
    query: Tensor,
    qkv: Tensor | None,
    kv: LayerKV,
    starts: Tensor,
    lengths: Tensor,
    longest: int,
    workspace: Workspace | None,
    one_launch: bool,
) -> Tensor:
    rows, heads, dim = query.shape
    check_head_dim(dim)
    assert query.stride(2) == 1, "heads of the query are not dense: this is a bug"
    assert query.stride(1) == dim, "heads of the query are not dense: this is a bug"
    assert kv.keys.is_contiguous(), "an arena is one piece: this is a bug"
    assert kv.values.is_contiguous(), "an arena is one piece: this is a bug"
    workspace = workspace or Workspace.of(rows, heads, dim, longest, query.device)
    parts = cdiv(longest, SPLIT)
    assert workspace.sums.shape[2] == parts, "the workspace is of another length: this is a bug"
    out = torch.empty(rows, heads * dim, dtype=query.dtype, device=query.device)
    new_keys, new_values = (query, query) if qkv is None else (qkv[:, 1], qkv[:, 2])
    scales = kv.keys if kv.scales is None else kv.scales  # a pointer that is not followed where there are none
    _attend_part[(rows, heads, parts)](
        query,
        new_keys,
        new_values,
        kv.keys,
        kv.values,
        scales,
        starts,
        lengths,
        workspace.sums,
        workspace.stats,
        workspace.done,
        out,
        query.stride(0),
        kv.keys.stride(0),
        kv.keys.shape[1],
        heads * kv.keys.shape[1],
        heads,
        parts,
        softmax_scale(dim) * _LOG2_E,
        DIM=dim,
        SPLIT=SPLIT,
        BLOCK=_BLOCK,
        INT8=kv.scales is not None,
        STORE=qkv is not None,
        REDUCE=one_launch,
        num_warps=_WARPS,
    )
    if not one_launch:
        _reduce[(rows, heads)](
            lengths, workspace.sums, workspace.stats, out, heads, parts, DIM=dim, SPLIT=SPLIT, num_warps=1
        )
    return out


@jit
def _add_block(scores, values, value_scales, highest, total, sums):
    """One more block of positions into the running softmax."""
    new_highest = tl.maximum(highest, tl.max(scores, 0))
    kept = tl.exp2(highest - new_highest)
    weights = tl.exp2(scores - new_highest)
    total = total * kept + tl.sum(weights, 0)
    sums = sums * kept + tl.sum((weights * value_scales)[:, None] * values, 0)
    return new_highest, total, sums


@jit
def _as_float32(stored, INT8: tl.constexpr):
    """A small whole number added to the bits of 1.5 · 2^23 is added to its value: no slow conversion on a GPU."""
    if INT8:
        return (stored.to(tl.int32) + 0x4B400000).to(tl.float32, bitcast=True) - 12582912.0
    return stored.to(tl.float32)


@jit
def _quantise(number):
    """As `models.kernels.decode_attention.quantise`: int8 and the scale, float16."""
    scale = (tl.max(tl.abs(number), 0) / 127.0).to(tl.float16)
    divisor = scale.to(tl.float32)
    divisor = tl.where(divisor == 0.0, 1.0, divisor)
    # Adding and taking off 1.5 · 2^23 rounds to the nearest whole number, ties to even.
    rounded = (number / divisor + 12582912.0) - 12582912.0
    return tl.minimum(tl.maximum(rounded, -127.0), 127.0).to(tl.int8), scale


@jit
def _store(new, stored, scales, place, scale_place, dims, INT8: tl.constexpr):
    """Write one vector to the arena; returns it as it will be read, and its scale."""
    number = tl.load(new + dims).to(tl.float32)
    if INT8:
        small, scale = _quantise(number)
        tl.store(stored + place + dims, small)
        tl.store(scales + scale_place, scale)
        return small.to(tl.float32), scale.to(tl.float32)
    rounded = number.to(stored.dtype.element_ty)
    tl.store(stored + place + dims, rounded)
    return rounded.to(tl.float32), 1.0


@jit
def _sum_up(base, parts_done, sums, stats, DIM: tl.constexpr):
    """All parts of one row and head, first to last."""
    dims = tl.arange(0, DIM)
    highest = tl.load(stats + base * 2, cache_modifier=".cg")
    total = tl.load(stats + base * 2 + 1, cache_modifier=".cg")
    whole = tl.load(sums + base * DIM + dims, cache_modifier=".cg")
    for part in range(1, parts_done):
        place = base + part
        its_highest = tl.load(stats + place * 2, cache_modifier=".cg")
        its_total = tl.load(stats + place * 2 + 1, cache_modifier=".cg")
        its_sums = tl.load(sums + place * DIM + dims, cache_modifier=".cg")
        new_highest = tl.maximum(highest, its_highest)
        kept = tl.exp2(highest - new_highest)
        weight = tl.exp2(its_highest - new_highest)
        total = total * kept + its_total * weight
        whole = whole * kept + its_sums * weight
        highest = new_highest
    return whole / total


@jit
def _attend_part(
    query,
    new_keys,
    new_values,
    keys,
    values,
    scales,
    starts,
    lengths,
    sums,
    stats,
    done,
    out,
    row_stride,
    head_stride,
    positions,
    half,
    heads,
    parts,
    scale,
    DIM: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK: tl.constexpr,
    INT8: tl.constexpr,
    STORE: tl.constexpr,
    REDUCE: tl.constexpr,
):
    row = tl.program_id(0)
    head = tl.program_id(1)
    part = tl.program_id(2)
    dims = tl.arange(0, DIM)
    length = tl.load(lengths + row)
    first = part * SPLIT
    if first >= length:
        if (length == 0) & (part == 0):
            tl.store(out + (row * heads + head) * DIM + dims, tl.zeros([DIM], tl.float32).to(out.dtype.element_ty))
        return
    start = tl.load(starts + row).to(tl.int64)
    vector = row.to(tl.int64) * row_stride + head * DIM
    asked = tl.load(query + vector + dims).to(tl.float32) * scale
    base = head.to(tl.int64) * head_stride + start * DIM
    key_scales = scales + head.to(tl.int64) * positions + start
    value_scales = key_scales + half
    end = tl.minimum(first + SPLIT, length)
    written = end
    if STORE:
        written = tl.minimum(end, length - 1)

    highest = tl.full([], float("-inf"), tl.float32)
    total = tl.zeros([], tl.float32)
    gathered = tl.zeros([DIM], tl.float32)
    for block in range(first, written, BLOCK):
        place = block + tl.arange(0, BLOCK)
        inside = place < written
        offsets = base + place[:, None] * DIM + dims[None, :]
        key = _as_float32(tl.load(keys + offsets, mask=inside[:, None], other=0), INT8)
        value = _as_float32(tl.load(values + offsets, mask=inside[:, None], other=0), INT8)
        scores = tl.sum(key * asked[None, :], 1)
        weight = tl.full([BLOCK], 1.0, tl.float32)
        if INT8:
            scores = scores * tl.load(key_scales + place, mask=inside, other=0.0).to(tl.float32)
            weight = tl.load(value_scales + place, mask=inside, other=0.0).to(tl.float32)
        scores = tl.where(inside, scores, float("-inf"))
        highest, total, gathered = _add_block(scores, value, weight, highest, total, gathered)
    if STORE:  # noqa: SIM102 decided when the kernel is compiled
        if end == length:
            last = length - 1
            key, key_scale = _store(new_keys + vector, keys, key_scales, base + last * DIM, last, dims, INT8)
            value, value_scale = _store(new_values + vector, values, value_scales, base + last * DIM, last, dims, INT8)
            score = tl.sum(key * asked, 0) * key_scale
            new_highest = tl.maximum(highest, score)
            kept = tl.exp2(highest - new_highest)
            weight_of_it = tl.exp2(score - new_highest)
            total = total * kept + weight_of_it
            gathered = gathered * kept + (weight_of_it * value_scale) * value
            highest = new_highest

    pair = row * heads + head
    place_of_part = pair.to(tl.int64) * parts + part
    tl.store(sums + place_of_part * DIM + dims, gathered)
    tl.store(stats + place_of_part * 2, highest)
    tl.store(stats + place_of_part * 2 + 1, total)
    if REDUCE:
        tl.debug_barrier()  # all threads of this part have stored before one of them says so
        all_parts = (length + SPLIT - 1) // SPLIT
        before = tl.atomic_add(done + pair, 1, sem="acq_rel")
        if before == all_parts - 1:
            tl.debug_barrier()
            result = _sum_up(pair.to(tl.int64) * parts, all_parts, sums, stats, DIM)
            tl.store(out + pair * DIM + dims, result.to(out.dtype.element_ty))
            tl.store(done + pair, 0)


@jit
def _reduce(lengths, sums, stats, out, heads, parts, DIM: tl.constexpr, SPLIT: tl.constexpr):
    row = tl.program_id(0)
    pair = row * heads + tl.program_id(1)
    length = tl.load(lengths + row)
    if length > 0:
        result = _sum_up(pair.to(tl.int64) * parts, (length + SPLIT - 1) // SPLIT, sums, stats, DIM)
        tl.store(out + pair * DIM + tl.arange(0, DIM), result.to(out.dtype.element_ty))
