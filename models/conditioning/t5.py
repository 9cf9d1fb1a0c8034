"""T5's encoder, for one sequence at a time, without padding, in float32.

Architecture: Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer" (2020),
section 2.1, and for gated feed-forward layers Shazeer, "GLU Variants Improve Transformer" (2020): norms without mean
and bias before each sub-layer, attention that is not scaled, one table of relative positions that all layers share.
Names and settings are those of transformers, which the tests hold it against; transformers itself is not imported,
because its modelling code takes longer to import than everything else a replica starts with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

SHARED, TIED = "shared.weight", "encoder.embed_tokens.weight"
"""The input table has two names; files hold it under one or both."""

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
}
_BIAS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
_FINAL_NORM = "encoder.final_layer_norm.weight"


@dataclass(frozen=True, slots=True)
class T5Settings:
    """The shape of an encoder, in transformers' words.

    Attributes:
        buckets: of relative positions; half of them for each direction.
        max_distance: from which on all are in the last bucket.
    """

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_heads: int
    buckets: int
    max_distance: int
    eps: float
    activation: str
    is_gated: bool

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self:
        """From the ``text_encoder`` section of ``config.json``; what it lacks is as in T5-small.

        Raises:
            ValueError: naming the setting that is none of T5's.
        """

        def number(name: str, default: int) -> int:
            value = values.get(name, default)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} = {value!r}, not a whole number of at least 1")
            return value

        eps = values.get("layer_norm_epsilon", 1e-6)
        if isinstance(eps, bool) or not isinstance(eps, int | float) or not 0 < eps < 1:
            raise ValueError(f"layer_norm_epsilon = {eps!r}, not a small number")
        activation, is_gated = _feed_forward(values)
        buckets, max_distance = (
            number("relative_attention_num_buckets", 32),
            number("relative_attention_max_distance", 128),
        )
        if buckets % 4 or max_distance <= buckets // 4:
            raise ValueError(
                f"relative_attention_num_buckets = {buckets} must be a multiple of 4, and a quarter of it less than "
                f"relative_attention_max_distance = {max_distance}"
            )
        return cls(
            number("vocab_size", 32128),
            number("d_model", 512),
            number("d_kv", 64),
            number("d_ff", 2048),
            number("num_layers", 6),
            number("num_heads", 8),
            buckets,
            max_distance,
            float(eps),
            activation,
            is_gated,
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all tensors but the table's second name."""
        inner = self.num_heads * self.d_kv
        shapes: dict[str, tuple[int, ...]] = {SHARED: (self.vocab_size, self.d_model)}
        for index in range(self.num_layers):
            attention, feed_forward = _prefixes(index)
            shapes |= {f"{attention}.SelfAttention.{name}.weight": (inner, self.d_model) for name in "qkv"}
            shapes[f"{attention}.SelfAttention.o.weight"] = (self.d_model, inner)
            shapes |= {
                f"{feed_forward}.DenseReluDense.{name}.weight": (self.d_ff, self.d_model) for name in self.inputs()
            }
            shapes[f"{feed_forward}.DenseReluDense.wo.weight"] = (self.d_model, self.d_ff)
            shapes |= {f"{part}.layer_norm.weight": (self.d_model,) for part in (attention, feed_forward)}
        return shapes | {_BIAS: (self.buckets, self.num_heads), _FINAL_NORM: (self.d_model,)}

    def inputs(self) -> tuple[str, ...]:
        """Names of the matrices that a feed-forward layer begins with."""
        return ("wi_0", "wi_1") if self.is_gated else ("wi",)


def _feed_forward(values: Mapping[str, object]) -> tuple[str, bool]:
    """Activation, and whether a second matrix gates it; ``gated-gelu`` means the approximation by tanh."""
    projection = values.get("feed_forward_proj", "relu")
    kind, _, rest = projection.partition("-") if isinstance(projection, str) else ("", "", "")
    if rest and kind != "gated":
        raise ValueError(f"feed_forward_proj = {projection!r}, neither an activation nor 'gated-' and one")
    derived = "gelu_new" if projection == "gated-gelu" else rest or kind
    activation = values.get("dense_act_fn", derived)
    if activation not in _ACTIVATIONS:
        raise ValueError(f"feed-forward activation {activation!r}, not one of {', '.join(_ACTIVATIONS)}")
    return str(activation), bool(rest)


def _prefixes(index: int) -> tuple[str, str]:
    return f"encoder.block.{index}.layer.0", f"encoder.block.{index}.layer.1"


class T5Encoder:
    """
    Args:
        state: float32 tensors, exactly those of ``settings.shapes()``.
    """

    def __init__(self, settings: T5Settings, state: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
        self.settings = settings
        self.device = torch.device(device)
        self._state = {name: tensor.to(self.device) for name, tensor in state.items()}

    @property
    def nbytes(self) -> int:
        """Of the weights."""
        return sum(tensor.nbytes for tensor in self._state.values())

    @torch.inference_mode()
    def encode(self, tokens: list[int]) -> Tensor:
        """float32 [T, d_model] of T token ids."""
        hidden = F.embedding(torch.tensor(tokens, device=self.device), self._state[SHARED])
        bias = self._position_bias(len(tokens))
        for index in range(self.settings.num_layers):
            attention, feed_forward = _prefixes(index)
            hidden = hidden + self._attend(self._norm(hidden, f"{attention}.layer_norm.weight"), attention, bias)
            normed = self._norm(hidden, f"{feed_forward}.layer_norm.weight")
            hidden = hidden + self._feed_forward(normed, feed_forward)
        return self._norm(hidden, _FINAL_NORM)

    # --------------------------------------------------------------------------------------------------- inside

    def _norm(self, hidden: Tensor, name: str) -> Tensor:
        variance = hidden.pow(2).mean(-1, keepdim=True)
        return self._state[name] * (hidden * torch.rsqrt(variance + self.settings.eps))

    def _attend(self, hidden: Tensor, prefix: str, bias: Tensor) -> Tensor:
        query, key, value = self._heads(hidden, prefix)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
        return self._linear(mixed[0].transpose(0, 1).flatten(1), f"{prefix}.SelfAttention.o.weight")

    def _heads(self, hidden: Tensor, prefix: str) -> Iterator[Tensor]:
        """Queries, keys and values, each [1, H, T, d_kv]."""
        for name in "qkv":
            flat = self._linear(hidden, f"{prefix}.SelfAttention.{name}.weight")
            yield flat.view(len(hidden), self.settings.num_heads, self.settings.d_kv).transpose(0, 1)[None]

    def _feed_forward(self, hidden: Tensor, prefix: str) -> Tensor:
        names = [f"{prefix}.DenseReluDense.{name}.weight" for name in self.settings.inputs()]
        inner = _ACTIVATIONS[self.settings.activation](self._linear(hidden, names[0]))
        if self.settings.is_gated:
            inner = inner * self._linear(hidden, names[1])
        return self._linear(inner, f"{prefix}.DenseReluDense.wo.weight")

    def _linear(self, hidden: Tensor, name: str) -> Tensor:
        return F.linear(hidden, self._state[name])

    def _position_bias(self, length: int) -> Tensor:
        """[1, H, T, T]: what is added to the scores of a query (row) and a key (column) so far apart."""
        positions = torch.arange(length, device=self.device)
        buckets = relative_buckets(positions[None, :] - positions[:, None], self.settings)
        return F.embedding(buckets, self._state[_BIAS]).permute(2, 0, 1)[None]


def relative_buckets(distances: Tensor, settings: T5Settings) -> Tensor:
    """The buckets of distances (key minus query): half of them for keys behind the query; in each half the first half
    is exact, the others grow logarithmically up to the largest distance."""
    half = settings.buckets // 2
    exact = half // 2
    far = distances.abs()
    growth = torch.log(far.float() / exact) / math.log(settings.max_distance / exact) * (half - exact)
    logarithmic = (exact + growth.clamp(min=0).long()).clamp(max=half - 1)  # log(0) is -inf, and is exact anyhow
    return torch.where(far < exact, far, logarithmic) + half * (distances > 0)
