"""MERT's features of a sound, in float32, one sound at a time.

Architecture: Li et al., "MERT: Acoustic Music Understanding Model with Large-Scale Self-supervised Training" (2023),
which is that of Hsu et al., "HuBERT" (2021): convolutions make frames of samples, another one tells them where they
are, and transformer layers with norms behind them follow. Names are those of transformers' ``HubertModel``, which the
tests hold it against; MERT's own modelling code runs with ``trust_remote_code`` only and is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from models.checkpoint_tensors import check_tensors
from models.style_config import MertConfig

_POSITION = "encoder.pos_conv_embed.conv"
_ALSO = {
    f"{_POSITION}.parametrizations.weight.original0": f"{_POSITION}.weight_g",
    f"{_POSITION}.parametrizations.weight.original1": f"{_POSITION}.weight_v",
}
"""Weight normalisation in torch's newer spelling: files hold either."""
_TRAINING = frozenset(("masked_spec_embed",))


class MertEncoder:
    """
    Args:
        state: tensors by their names in transformers.

    Raises:
        CheckpointError: naming the tensor that is missing, left over or misshapen.
    """

    def __init__(self, config: MertConfig, state: Mapping[str, Tensor]) -> None:
        named = {_ALSO.get(name, name): state[name] for name in state if name not in _TRAINING}
        check_tensors("style_encoder", named, config.shapes())
        self.config = config
        self._state = {name: tensor.float() for name, tensor in named.items()}
        direction, size = (self._state.pop(f"{_POSITION}.weight_{part}") for part in "vg")
        self._state[f"{_POSITION}.weight"] = direction * (size / direction.norm(dim=(0, 1), keepdim=True))

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._state.values())

    @torch.inference_mode()
    def encode(self, samples: Tensor) -> Tensor:
        """float32 [frames, hidden_size] of float32 [N] at the encoder's own rate, as it is: not normalised, as
        audiocraft leaves it."""
        hidden = self._projected(self._convolved(samples[None, None])[0].t())
        hidden = self._norm(hidden + self._positions(hidden), "encoder.layer_norm")
        for index in range(self.config.num_layers):
            layer = f"encoder.layers.{index}"
            hidden = self._norm(hidden + self._attend(hidden, f"{layer}.attention"), f"{layer}.layer_norm")
            hidden = self._norm(hidden + self._feed_forward(hidden, layer), f"{layer}.final_layer_norm")
        return hidden

    # --------------------------------------------------------------------------------------------------- inside

    def _convolved(self, hidden: Tensor) -> Tensor:
        """[1, C, frames]; the first convolution alone is normalised, each channel over its whole length."""
        for index, stride in enumerate(self.config.conv_strides):
            name = f"feature_extractor.conv_layers.{index}"
            bias = self._state.get(f"{name}.conv.bias")
            hidden = F.conv1d(hidden, self._state[f"{name}.conv.weight"], bias, stride)
            if index == 0:
                weight, bias = (self._state[f"{name}.layer_norm.{part}"] for part in ("weight", "bias"))
                hidden = F.group_norm(hidden, len(weight), weight, bias)
            hidden = F.gelu(hidden)
        return hidden

    def _projected(self, frames: Tensor) -> Tensor:
        return self._linear(self._norm(frames, "feature_projection.layer_norm"), "feature_projection.projection")

    def _positions(self, hidden: Tensor) -> Tensor:
        weight, bias = self._state[f"{_POSITION}.weight"], self._state[f"{_POSITION}.bias"]
        padding, groups = self.config.position_kernel // 2, self.config.position_groups
        made = F.conv1d(hidden.t()[None], weight, bias, padding=padding, groups=groups)
        return F.gelu(made[0, :, : len(hidden)]).t()  # of an even kernel one is too many

    def _attend(self, hidden: Tensor, name: str) -> Tensor:
        heads = self.config.num_heads
        query, key, value = (
            self._linear(hidden, f"{name}.{part}_proj").view(len(hidden), heads, -1).transpose(0, 1)[None]
            for part in "qkv"
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self._linear(mixed[0].transpose(0, 1).flatten(1), f"{name}.out_proj")

    def _feed_forward(self, hidden: Tensor, layer: str) -> Tensor:
        inner = F.gelu(self._linear(hidden, f"{layer}.feed_forward.intermediate_dense"))
        return self._linear(inner, f"{layer}.feed_forward.output_dense")

    def _linear(self, hidden: Tensor, name: str) -> Tensor:
        return F.linear(hidden, self._state[f"{name}.weight"], self._state[f"{name}.bias"])

    def _norm(self, hidden: Tensor, name: str) -> Tensor:
        weight, bias = self._state[f"{name}.weight"], self._state[f"{name}.bias"]
        return F.layer_norm(hidden, weight.shape, weight, bias, self.config.eps)
