# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-calls=False
"""What surrounds attention in a layer, in as few kernels as possible.

    add_norm        residual + update, and LayerNorm of it              (any number of rows)
    skinny_linear   [LayerNorm →] x · Wᵀ [→ GELU] [→ + residual]        (few rows: the weights are streamed once)

A step of few rows is a stream of weights; every kernel beside the matrix products is time in which none are read.
With these a layer is 8 kernels: 6 products with all that is around them, and two attentions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.kernels.triton.compiler import cdiv, jit, next_power_of_2, tl

SKINNY_ROWS = 16
"""Up to so many rows `skinny_linear` does what cuBLAS does not do better: one tile of a tensor core."""
NORM_INSIDE_ROWS = 4
"""Up to so many rows every program of a product may as well normalise its input itself."""

_EPSILON = 1e-5
_BLOCK_OUTPUTS = 16
_BLOCK_INPUTS = 128
_SMALLEST_DOT = 16
_MOST_ROWS = 64
"""Of a tile; more rows are several, and the weights are then read from the cache."""


def add_norm(residual: Tensor, update: Tensor | None, weight: Tensor, bias: Tensor) -> Tensor:
    """LayerNorm of the residual, after the update is added to it in place.

    Args:
        residual: [R, D], dense.
        update: [R, D] or None.

    Returns:
        [R, D]
    """
    rows, width = residual.shape
    out = torch.empty_like(residual)
    block = next_power_of_2(width)
    _add_norm[(rows,)](
        residual,
        residual if update is None else update,
        weight,
        bias,
        out,
        width,
        1 / width,
        BLOCK=block,
        ADD=update is not None,
        EPSILON=_EPSILON,
        num_warps=4 if block <= 2048 else 8,
    )
    return out


def skinny_linear(
    inputs: Tensor,
    weight: Tensor,
    *,
    scales: Tensor | None = None,
    norm: tuple[Tensor, Tensor] | None = None,
    gelu: bool = False,
    residual: Tensor | None = None,
) -> Tensor:
    """x · Wᵀ, made for few rows.

    Args:
        inputs: [R, I], dense.
        weight: [O, I], dense, of the same type; or int8.
        scales: float32 [O] of int8 weights.
        norm: weight and bias of a LayerNorm that the inputs go through first.
        gelu: of the outputs (exact, not the tanh approximation).
        residual: [R, O]; the outputs are added to it in place, and it is returned.

    Returns:
        [R, O]
    """
    rows, width = inputs.shape
    outputs = weight.shape[0]
    assert (scales is not None) == (weight.dtype == torch.int8), "int8 has scales, nothing else has: this is a bug"
    tile = min(_MOST_ROWS, max(_SMALLEST_DOT, next_power_of_2(rows)))
    out = torch.empty(rows, outputs, dtype=inputs.dtype, device=inputs.device) if residual is None else residual
    norm_weight, norm_bias = (inputs, inputs) if norm is None else norm
    # Pointers that are not followed where there is nothing: a kernel has no None.
    tensors = (inputs, weight, weight if scales is None else scales, norm_weight, norm_bias, out)
    _skinny_linear[(cdiv(outputs, _BLOCK_OUTPUTS), cdiv(rows, tile))](
        *tensors,
        *(rows, outputs, width, 1 / width),
        ROWS=tile,
        OUTPUTS=_BLOCK_OUTPUTS,
        INPUTS=min(_BLOCK_INPUTS, max(_SMALLEST_DOT, next_power_of_2(width))),
        INT8=scales is not None,
        NORM=norm is not None,
        GELU=gelu,
        ADD=residual is not None,
        EPSILON=_EPSILON,
        num_warps=4,
        num_stages=4,
    )
    return out


@jit
def _add_norm(
    residual,
    update,
    weight,
    bias,
    out,
    width,
    inverse_width,
    BLOCK: tl.constexpr,
    ADD: tl.constexpr,
    EPSILON: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    numbers = tl.load(residual + row * width + columns, mask=inside, other=0.0)
    if ADD:
        # Rounded to the type of the residual before it is normalised, as the unfused sum is.
        sums = numbers.to(tl.float32) + tl.load(update + row * width + columns, mask=inside, other=0.0).to(tl.float32)
        numbers = sums.to(residual.dtype.element_ty)
        tl.store(residual + row * width + columns, numbers, mask=inside)
    exact = numbers.to(tl.float32)
    mean = tl.sum(exact, 0) * inverse_width
    centred = tl.where(inside, exact - mean, 0.0)
    variance = tl.sum(centred * centred, 0) * inverse_width
    normal = centred / tl.sqrt(variance + EPSILON)
    scaled = normal * tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    shifted = scaled + tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + columns, shifted.to(out.dtype.element_ty), mask=inside)


@jit
def _moments(inputs, row, live, width, inverse_width, ROWS: tl.constexpr, INPUTS: tl.constexpr, EPSILON: tl.constexpr):
    """Mean and 1 / deviation of each row, in two passes: what is read twice is small and near."""
    total = tl.zeros([ROWS], tl.float32)
    for begin in range(0, width, INPUTS):
        column = begin + tl.arange(0, INPUTS)
        inside = live[:, None] & (column < width)[None, :]
        total += tl.sum(
            tl.load(inputs + row[:, None] * width + column[None, :], mask=inside, other=0.0).to(tl.float32), 1
        )
    mean = total * inverse_width
    squares = tl.zeros([ROWS], tl.float32)
    for begin in range(0, width, INPUTS):
        column = begin + tl.arange(0, INPUTS)
        inside = live[:, None] & (column < width)[None, :]
        number = tl.load(inputs + row[:, None] * width + column[None, :], mask=inside, other=0.0).to(tl.float32)
        centred = tl.where(inside, number - mean[:, None], 0.0)
        squares += tl.sum(centred * centred, 1)
    return mean, 1.0 / tl.sqrt(squares * inverse_width + EPSILON)


@jit
def _skinny_linear(
    inputs,
    weight,
    scales,
    norm_weight,
    norm_bias,
    out,
    rows,
    outputs,
    width,
    inverse_width,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
    INT8: tl.constexpr,
    NORM: tl.constexpr,
    GELU: tl.constexpr,
    ADD: tl.constexpr,
    EPSILON: tl.constexpr,
):
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    live = row < rows
    real = output < outputs
    mean = tl.zeros([ROWS], tl.float32)
    inverse_deviation = tl.zeros([ROWS], tl.float32)
    if NORM:
        mean, inverse_deviation = _moments(inputs, row, live, width, inverse_width, ROWS, INPUTS, EPSILON)
    total = tl.zeros([ROWS, OUTPUTS], tl.float32)
    weight_row = output.to(tl.int64) * width
    for begin in range(0, width, INPUTS):
        column = begin + tl.arange(0, INPUTS)
        inside = column < width
        block = tl.load(weight + weight_row[:, None] + column[None, :], mask=real[:, None] & inside[None, :], other=0.0)
        number = tl.load(
            inputs + row[:, None] * width + column[None, :], mask=live[:, None] & inside[None, :], other=0.0
        )
        if NORM:
            scale = tl.load(norm_weight + column, mask=inside, other=0.0).to(tl.float32)
            shift = tl.load(norm_bias + column, mask=inside, other=0.0).to(tl.float32)
            normal = (number.to(tl.float32) - mean[:, None]) * inverse_deviation[:, None]
            number = (normal * scale[None, :] + shift[None, :]).to(inputs.dtype.element_ty)
        # A whole number of eight bits is itself in every type that inputs have.
        total = tl.dot(number, tl.trans(block.to(inputs.dtype.element_ty)), total, input_precision="ieee")
    if INT8:
        total = total * tl.load(scales + output, mask=real, other=0.0)[None, :]
    if GELU:
        # The product is rounded first, as between two kernels.
        exact = total.to(out.dtype.element_ty).to(tl.float32)
        total = 0.5 * exact * (1.0 + tl.erf(exact * 0.7071067811865476))
    place = out + row[:, None].to(tl.int64) * outputs + output[None, :]
    inside_out = live[:, None] & real[None, :]
    if ADD:
        rounded = total.to(out.dtype.element_ty).to(tl.float32)
        total = tl.load(place, mask=inside_out, other=0.0).to(tl.float32) + rounded
    tl.store(place, total.to(out.dtype.element_ty), mask=inside_out)
