# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-calls=False
"""The kernels of `models.kernels.triton.decode_attention`, which says what they do."""

from __future__ import annotations

from models.kernels.triton.compiler import jit, tl


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
def attend_part(
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
def reduce_parts(lengths, sums, stats, out, heads, parts, DIM: tl.constexpr, SPLIT: tl.constexpr):
    row = tl.program_id(0)
    pair = row * heads + tl.program_id(1)
    length = tl.load(lengths + row)
    if length > 0:
        result = _sum_up(pair.to(tl.int64) * parts, (length + SPLIT - 1) // SPLIT, sums, stats, DIM)
        tl.store(out + pair * DIM + tl.arange(0, DIM), result.to(out.dtype.element_ty))
