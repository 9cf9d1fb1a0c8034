"""Matrices laid out as the CPU kernel reads them, and rounded to what they are stored in.

A packed matrix is tiles of 16 outputs, each with all its inputs, so that one vector of weights serves 16 outputs and a
tile is one run of memory. Inside a tile the order is the machine's: see `matrix.h`.

- int8: symmetric, one scale per output (the largest weight is 127).
- int4: symmetric, −8 … 7, one scale per output and group of inputs: the one of a few candidates whose squared error is
  smallest, kept in bfloat16.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TILE = 16
"""Outputs that lie together."""
GROUP = 64
"""Inputs that share an int4 scale; every matrix has a multiple of it."""

FORMATS = {"fp32": 0, "bf16": 1, "int8": 2, "int4": 3}
"""Names of the weight formats, and the kernel's numbers for them."""

_AT_ONCE = 1 << 18  # weights: what is made of them on the way stays in the processor's cache, which is 8 times as fast

# Clipping the largest weights of a group costs less than coarser steps for all others; by how much is searched.
_CLIPPING = (1.0, 0.93, 0.86, 0.79, 0.72)


@dataclass(frozen=True, slots=True)
class Quantised:
    """Whole numbers and their scales.

    Attributes:
        levels: int8 [outputs, inputs]
        scales: float32 [outputs, inputs / group]; int8 has one group.
    """

    levels: Tensor
    scales: Tensor

    def dequantise(self) -> Tensor:
        """float32 [outputs, inputs]: the weights that are computed with."""
        outputs, groups = self.scales.shape
        return (self.levels.view(outputs, groups, -1) * self.scales[:, :, None]).view(outputs, -1)


def quantise(weight: Tensor, name: str) -> Quantised:
    """Round a matrix [outputs, inputs] to int8 or int4.

    Raises:
        KeyError: another format.
    """
    return {"int8": _to_int8, "int4": _to_int4}[name](weight.float())


def _to_int8(weight: Tensor) -> Quantised:
    scales = _int8_scales(weight)
    return Quantised((weight / scales).round_().to(torch.int8), scales)


def _int8_scales(weight: Tensor) -> Tensor:
    """float32 [outputs, 1]"""
    largest = torch.maximum(weight.amax(dim=1, keepdim=True), weight.amin(dim=1, keepdim=True).neg_())
    return largest.div_(127).clamp_(min=torch.finfo(torch.float32).tiny)


def _to_int4(weight: Tensor) -> Quantised:
    outputs, inputs = weight.shape
    grouped = weight.view(outputs, inputs // GROUP, GROUP)
    # −8 is used for the extreme of either sign: the scale is negative where the largest weight is positive.
    extreme = grouped.gather(2, grouped.abs().argmax(dim=2, keepdim=True))
    best = torch.full(extreme.shape, torch.inf)
    levels, scales = torch.empty_like(grouped, dtype=torch.int8), torch.empty_like(extreme)
    for share in _CLIPPING:
        scale = (extreme * (share / -8)).bfloat16().float()
        scale = torch.where(scale == 0, torch.finfo(torch.bfloat16).tiny, scale)
        rounded = (grouped / scale).round_().clamp_(-8, 7)
        error = (rounded * scale - grouped).square_().sum(dim=2, keepdim=True)
        better = error < best
        best = torch.where(better, error, best)
        scales = torch.where(better, scale, scales)
        levels = torch.where(better, rounded.to(torch.int8), levels)
    return Quantised(levels.view(outputs, inputs), scales[:, :, 0])


@dataclass(frozen=True, slots=True)
class PackedMatrix:
    """A matrix as the kernel reads it; keep it alive while the kernel may.

    Attributes:
        name: of its format.
        data: bytes or numbers in the kernel's order.
        scales: float32 [outputs] for int8, bfloat16 in the kernel's order for int4, else empty.
    """

    name: str
    outputs: int
    inputs: int
    data: Tensor
    scales: Tensor

    @property
    def nbytes(self) -> int:
        return self.data.nbytes + self.scales.nbytes


def pack(weight: Tensor, name: str, path: str) -> PackedMatrix:
    """Lay a matrix out.

    Args:
        weight: [outputs, inputs]; multiples of TILE and GROUP.
        name: of the format.
        path: "avx512_bf16" or "portable", as the kernel says of itself.
    """
    outputs, inputs = weight.shape
    assert outputs % TILE == inputs % GROUP == 0, f"a matrix of {outputs} x {inputs} can not be packed: a bug"
    if name in ("fp32", "bf16"):
        numbers = weight.to(torch.float32 if name == "fp32" else torch.bfloat16)
        fast = name == "bf16" and path != "portable"
        return PackedMatrix(name, outputs, inputs, _in_pairs(numbers) if fast else _in_tiles(numbers), torch.empty(0))
    if name == "int8" and path != "portable":
        data, scales = _pack_int8(weight.float())
        return PackedMatrix(name, outputs, inputs, data, scales[:, 0].contiguous())
    quantised = quantise(weight, name)
    if name == "int8":
        return PackedMatrix(name, outputs, inputs, _in_tiles(quantised.levels), quantised.scales[:, 0].contiguous())
    data = _nibbles(quantised.levels) if path == "portable" else _nibbles_in_pairs(quantised.levels)
    scales = quantised.scales.view(outputs // TILE, TILE, -1).transpose(1, 2).bfloat16().contiguous()
    return PackedMatrix(name, outputs, inputs, data, scales)


def pack_panel(weight: Tensor, name: str, path: str) -> Tensor:
    """Lay a matrix [outputs, even inputs] out in fp32 or bf16, the last tile filled up with zeros."""
    outputs, inputs = weight.shape
    assert name in ("fp32", "bf16"), f"no panels in {name}: a bug"
    assert inputs % 2 == 0, f"a panel of {outputs} x {inputs}: a bug"
    filled = torch.zeros(-(-outputs // TILE) * TILE, inputs)
    filled[:outputs] = weight
    if name == "fp32":
        return _in_tiles(filled)
    return _in_tiles(filled.bfloat16()) if path == "portable" else _in_pairs(filled.bfloat16())


def _in_tiles(weight: Tensor) -> Tensor:
    """[outputs, inputs] -> [tiles, inputs, 16]"""
    return weight.view(-1, TILE, weight.shape[1]).transpose(1, 2).contiguous()


def _in_pairs(weight: Tensor) -> Tensor:
    """[outputs, inputs] -> [tiles, inputs / 2, 16, 2]"""
    return weight.view(-1, TILE, weight.shape[1] // 2, 2).transpose(1, 2).contiguous()


def _pack_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Levels and scales of `_to_int8`, −127 … 127 as a sign bit and a magnitude; inputs in fours, as the kernel's byte
    interleaving undoes it. Some rows at a time."""
    outputs, inputs = weight.shape
    scales = _int8_scales(weight)
    rows = max(1, _AT_ONCE // inputs // TILE) * TILE
    rounded, levels = torch.empty(rows, inputs), torch.empty(2, rows, inputs, dtype=torch.int8)
    #   tile, four, lane, half, place in the lane; a pair of inputs moves as one number
    data = torch.empty(outputs // TILE, inputs // 4, 4, 2, 4, dtype=torch.int16)
    for start in range(0, outputs, rows):
        part, scale = weight[start : start + rows], scales[start : start + rows]
        size = len(part)
        level, sign = levels[:, :size]
        level.copy_(torch.div(part, scale, out=rounded[:size]).round_())
        torch.bitwise_and(level, -128, out=sign)
        coded = level.abs_().bitwise_or_(sign).view(torch.int16)
        tiles = slice(start // TILE, (start + size) // TILE)
        data[tiles] = coded.view(-1, 4, 4, inputs // 4, 2).permute(0, 3, 1, 4, 2)
    return data.view(torch.uint8), scales


def _nibbles(levels: Tensor) -> Tensor:
    """[outputs, inputs] -> [tiles, inputs / 2, 16]; the even input in the low nibble, 8 added."""
    coded = _in_tiles((levels + 8).to(torch.uint8))
    return (coded[:, 0::2] | coded[:, 1::2] << 4).contiguous()


def _nibbles_in_pairs(levels: Tensor) -> Tensor:
    """Inputs in eights: the low nibbles hold the first four, the high ones the others, each as int8 has them."""
    coded = (levels + 8).to(torch.uint8)
    #   outputs: tile, lane, place; inputs: eight, nibble, half, which of a pair
    split = coded.view(-1, 4, 4, levels.shape[1] // 8, 2, 2, 2).permute(0, 3, 1, 5, 2, 6, 4)
    return (split[..., 0] | split[..., 1] << 4).contiguous()
