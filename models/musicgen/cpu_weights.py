"""The decoder's weights as the CPU kernel reads them: named tensors, made one after the other from a checkpoint's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from models.config import DecoderConfig
from models.kernels.cpu.packing import PackedMatrix, pack
from models.musicgen.decoder import sinusoid
from models.musicgen.weights import fused_layer, fused_tables, head_format

PROJECTION = "projection."


def packed_tensors(
    state: Mapping[str, Tensor],
    projection: Mapping[str, Tensor] | None,
    config: DecoderConfig,
    weights: str,
    path: str,
) -> Iterator[tuple[str, Tensor]]:
    """All that `CpuDecoder` keeps. A matrix has ``NAME.data``, and ``NAME.scales`` where its format has scales.

    Args:
        state: transformers' names below ``decoder.``.
        projection: weight and bias of the text projection, if there is one.
        weights: "fp32", "bf16", "int8" or "int4". With int4 the heads are int8: few bytes, and every logit's.
        path: as the kernel says of itself.
    """
    yield "sinusoid", sinusoid(config.num_positions, config.hidden_size)
    yield from ((f"{PROJECTION}{part}", tensor.float()) for part, tensor in (projection or {}).items())
    for index in range(config.num_layers):  # one at a time: the whole in float32 may not fit twice
        for name, tensor in fused_layer(state, index).items():
            yield from _ready(f"{index}.{name}", tensor, weights, path)
    for name, tensor in fused_tables(state, config).items():
        if name == "embedding":
            yield name, tensor.to(torch.float32 if weights == "fp32" else torch.bfloat16).contiguous()
        else:
            yield from _ready(name, tensor, head_format(weights), path)


def matrix_of(tensors: Mapping[str, Tensor], name: str, weights: str, shape: tuple[int, int]) -> PackedMatrix:
    """The matrix of that name and shape [outputs, inputs] in those tensors."""
    scales = tensors.get(f"{name}.scales")
    return PackedMatrix(weights, *shape, tensors[f"{name}.data"], torch.empty(0) if scales is None else scales)


def _ready(name: str, tensor: Tensor, weights: str, path: str) -> Iterator[tuple[str, Tensor]]:
    """A norm's vector in float32, or a matrix packed."""
    if tensor.dim() == 1:
        yield name, tensor.float().contiguous()
        return
    name, packed = name.removesuffix(".weight"), pack(tensor, weights, path)
    yield f"{name}.data", packed.data
    if packed.scales.numel():
        yield f"{name}.scales", packed.scales
