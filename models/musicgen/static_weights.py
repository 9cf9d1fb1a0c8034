"""The weights of the static step, from a checkpoint: on the device, in the types that were asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.config import DecoderConfig
from models.musicgen.decoder import sinusoid
from models.musicgen.static_layers import Matrix, Norm
from models.musicgen.weights import fused_tensors

if TYPE_CHECKING:
    from models.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """Of one layer, under the names of `models.musicgen.weights`."""

    self_norm: Norm
    qkv: Matrix
    self_out: Matrix
    cross_norm: Norm
    cross_query: Matrix
    cross_out: Matrix
    ffn_norm: Norm
    up: Matrix
    down: Matrix


_MATRICES = ("qkv", "self_out", "cross_query", "cross_out", "up", "down")


@dataclass(frozen=True, slots=True)
class StaticWeights:
    """
    Attributes:
        embedding: [K · (V + 1), D]
        sinusoid: float32 [positions, D]
        cross_kv: [L · 2 · D, D], of all layers, so that a request takes one product.
        text_projection: weight and bias, where the configuration asks for them.
    """

    embedding: Tensor
    sinusoid: Tensor
    layers: tuple[LayerWeights, ...]
    final_norm: Norm
    heads: Matrix
    cross_kv: Tensor
    text_projection: Norm | None

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, device: torch.device | str, dtype: torch.dtype, weights: str
    ) -> StaticWeights:
        """Of a loaded checkpoint, whose tensors `load_checkpoint` has accounted for.

        Args:
            weights: of what every step multiplies by: one of `models.engine_config.STATIC_WEIGHTS`. Tables, norms and
                what a text goes through once are of ``dtype``.
        """
        config = checkpoint.config.decoder
        state: dict[str, Tensor] = {}
        matrices: dict[str, Matrix] = {}
        for name, tensor in fused_tensors(checkpoint.decoder_state, config):
            if name.removesuffix(".weight").rpartition(".")[2] in (*_MATRICES, "heads"):
                matrices[name] = Matrix.of(tensor.to(device), dtype, weights)
            else:
                state[name] = tensor.to(device, dtype)
        projection = checkpoint.enc_to_dec_proj or {}
        return cls(
            embedding=state["embedding"],
            sinusoid=sinusoid(config.num_positions, config.hidden_size).to(device),
            layers=tuple(_layer(state, matrices, index) for index in range(config.num_layers)),
            final_norm=_norm(state, "final_norm"),
            heads=matrices["heads.weight"],
            cross_kv=_cross_kv(state, config),
            text_projection=(
                (projection["weight"].to(device, dtype), projection["bias"].to(device, dtype))
                if config.has_text_projection
                else None
            ),
        )


def _layer(state: dict[str, Tensor], matrices: dict[str, Matrix], index: int) -> LayerWeights:
    qkv, self_out, cross_query, cross_out, up, down = (matrices[f"layers.{index}.{name}.weight"] for name in _MATRICES)
    self_norm, cross_norm, ffn_norm = (
        _norm(state, f"layers.{index}.{name}") for name in ("self_norm", "cross_norm", "ffn_norm")
    )
    return LayerWeights(self_norm, qkv, self_out, cross_norm, cross_query, cross_out, ffn_norm, up, down)


def _norm(state: dict[str, Tensor], name: str) -> Norm:
    return state[f"{name}.weight"], state[f"{name}.bias"]


def _cross_kv(state: dict[str, Tensor], config: DecoderConfig) -> Tensor:
    return torch.cat([state[f"layers.{index}.cross_kv.weight"] for index in range(config.num_layers)])
