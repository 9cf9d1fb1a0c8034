"""The decoder's tensors: their transformers names and shapes, and how they become ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from models.config import DecoderConfig

_ROOT = "model.decoder"
_NORMS = (
    ("self_attn_layer_norm", "self_norm"),
    ("encoder_attn_layer_norm", "cross_norm"),
    ("final_layer_norm", "ffn_norm"),
)


def expected_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Name below ``decoder.`` → shape, of every tensor that the decoder needs."""
    width = config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {f"{_ROOT}.layer_norm.{part}": (width,) for part in ("weight", "bias")}
    for codebook in range(config.num_codebooks):
        shapes[f"{_ROOT}.embed_tokens.{codebook}.weight"] = (config.vocab_size + 1, width)
        shapes[f"lm_heads.{codebook}.weight"] = (config.vocab_size, width)
    for layer in range(config.num_layers):
        name = f"{_ROOT}.layers.{layer}"
        shapes[f"{name}.fc1.weight"] = (config.ffn_dim, width)
        shapes[f"{name}.fc2.weight"] = (width, config.ffn_dim)
        for attention in ("self_attn", "encoder_attn"):
            for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
                shapes[f"{name}.{attention}.{projection}.weight"] = (width, width)
        for norm, _ in _NORMS:
            shapes |= {f"{name}.{norm}.{part}": (width,) for part in ("weight", "bias")}
    return shapes


def fused_state(
    state: Mapping[str, Tensor], config: DecoderConfig, device: torch.device | str, dtype: torch.dtype
) -> dict[str, Tensor]:
    """The same numbers under our names: projections of one input side by side, tables of all codebooks in one."""

    def joined(*names: str) -> Tensor:
        return torch.cat([state[name].to(device, dtype) for name in names])

    codebooks = range(config.num_codebooks)
    fused = {
        "embedding": joined(*(f"{_ROOT}.embed_tokens.{codebook}.weight" for codebook in codebooks)),
        "heads.weight": joined(*(f"lm_heads.{codebook}.weight" for codebook in codebooks)),
    }
    for part in ("weight", "bias"):
        fused[f"final_norm.{part}"] = joined(f"{_ROOT}.layer_norm.{part}")
    for layer in range(config.num_layers):
        tensors = _fused_layer(f"{_ROOT}.layers.{layer}", joined)
        fused |= {f"layers.{layer}.{name}": tensor for name, tensor in tensors.items()}
    return fused


def _fused_layer(name: str, joined: Callable[..., Tensor]) -> dict[str, Tensor]:
    def projections(attention: str, letters: str) -> Tensor:
        return joined(*(f"{name}.{attention}.{letter}_proj.weight" for letter in letters))

    tensors = {
        "qkv.weight": projections("self_attn", "qkv"),
        "self_out.weight": joined(f"{name}.self_attn.out_proj.weight"),
        "cross_query.weight": projections("encoder_attn", "q"),
        "cross_kv.weight": projections("encoder_attn", "kv"),
        "cross_out.weight": joined(f"{name}.encoder_attn.out_proj.weight"),
        "up.weight": joined(f"{name}.fc1.weight"),
        "down.weight": joined(f"{name}.fc2.weight"),
    }
    for theirs, ours in _NORMS:
        tensors |= {f"{ours}.{part}": joined(f"{name}.{theirs}.{part}") for part in ("weight", "bias")}
    return tensors
