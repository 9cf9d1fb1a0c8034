"""The decoder's tensors: their transformers names and shapes, and how they become ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from models.config import NUM_CHROMA, DecoderConfig, ModelConfig
from models.kernels.cpu.packing import quantise

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
        for attention in ("self_attn", "encoder_attn") if config.cross_attention else ("self_attn",):
            for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
                shapes[f"{name}.{attention}.{projection}.weight"] = (width, width)
        for norm, ours in _NORMS:
            if config.cross_attention or ours != "cross_norm":
                shapes |= {f"{name}.{norm}.{part}": (width,) for part in ("weight", "bias")}
    return shapes


def projection_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Name below ``enc_to_dec_proj.`` → shape, of the text projection; there is none between equal widths."""
    if not config.has_text_projection:
        return {}
    return {"weight": (config.hidden_size, config.text_hidden_size), "bias": (config.hidden_size,)}


def melody_projection_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name below ``audio_enc_to_dec_proj.`` → shape, of what makes embeddings of a melody's pitch classes."""
    if not config.takes_melody:
        return {}
    return {"weight": (config.decoder.hidden_size, NUM_CHROMA), "bias": (config.decoder.hidden_size,)}


def fused_state(
    state: Mapping[str, Tensor], config: DecoderConfig, device: torch.device | str, dtype: torch.dtype
) -> dict[str, Tensor]:
    """`fused_tensors`, all on that device and of that type."""
    return {name: tensor.to(device, dtype) for name, tensor in fused_tensors(state, config)}


def fused_tensors(state: Mapping[str, Tensor], config: DecoderConfig) -> Iterator[tuple[str, Tensor]]:
    """The same numbers under our names: projections of one input side by side, tables of all codebooks in one.

    One after the other, in the checkpoint's type, so that no second copy of a model need be in memory.
    """
    yield from fused_tables(state, config).items()
    for layer in range(config.num_layers):
        yield from ((f"layers.{layer}.{name}", tensor) for name, tensor in fused_layer(state, layer).items())


def fused_tables(state: Mapping[str, Tensor], config: DecoderConfig) -> dict[str, Tensor]:
    """What is not a layer's: embedding, final norm and heads; in the checkpoint's type."""
    codebooks = range(config.num_codebooks)
    norm = {f"final_norm.{part}": state[f"{_ROOT}.layer_norm.{part}"] for part in ("weight", "bias")}
    return norm | {
        "embedding": torch.cat([state[f"{_ROOT}.embed_tokens.{codebook}.weight"] for codebook in codebooks]),
        "heads.weight": torch.cat([state[f"lm_heads.{codebook}.weight"] for codebook in codebooks]),
    }


def fused_layer(state: Mapping[str, Tensor], layer: int) -> dict[str, Tensor]:
    """One layer's tensors under our names, in the checkpoint's type; without cross-attention those of it are absent."""
    name = f"{_ROOT}.layers.{layer}"

    def projections(attention: str, letters: str) -> Tensor:
        return torch.cat([state[f"{name}.{attention}.{letter}_proj.weight"] for letter in letters])

    tensors = {
        "qkv.weight": projections("self_attn", "qkv"),
        "self_out.weight": state[f"{name}.self_attn.out_proj.weight"],
        "up.weight": state[f"{name}.fc1.weight"],
        "down.weight": state[f"{name}.fc2.weight"],
    }
    attends_to_text = f"{name}.encoder_attn.out_proj.weight" in state
    if attends_to_text:
        tensors["cross_query.weight"] = projections("encoder_attn", "q")
        tensors["cross_kv.weight"] = projections("encoder_attn", "kv")
        tensors["cross_out.weight"] = state[f"{name}.encoder_attn.out_proj.weight"]
    for theirs, ours in _NORMS:
        if attends_to_text or ours != "cross_norm":
            tensors |= {f"{ours}.{part}": state[f"{name}.{theirs}.{part}"] for part in ("weight", "bias")}
    return tensors


def rounded_state(state: Mapping[str, Tensor], weights: str) -> dict[str, Tensor]:
    """The numbers that int8 or int4 weights stand for, in float32: for wherever no kernel reads those themselves."""
    return {
        name: quantise(tensor, _format_of(name, weights)).dequantise() if _is_quantised(name) else tensor
        for name, tensor in state.items()
    }


def head_format(weights: str) -> str:
    """Heads are int8 where the rest is int4: few of the bytes, and all of the logits."""
    return "int8" if weights == "int4" else weights


def _format_of(name: str, weights: str) -> str:
    return head_format(weights) if name.startswith("lm_heads.") else weights


def _is_quantised(name: str) -> bool:
    return name.endswith((".weight",)) and ("_proj." in name or ".fc" in name or name.startswith("lm_heads."))
