"""Random codecs for the codec's tests: transformers' own model, and ours on the same weights."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from transformers import EncodecConfig, EncodecModel

from models.config import CodecConfig
from models.encodec.decoder import EncodecDecoder

PUBLISHED_GEOMETRY: dict[str, Any] = {
    "sampling_rate": 32_000,
    "codebook_size": 2048,
    "hidden_size": 16,
    "num_filters": 4,
    "upsampling_ratios": [8, 5, 4, 4],
    "norm_type": "weight_norm",
    "use_causal_conv": False,
    "use_conv_shortcut": False,
    "pad_mode": "reflect",
}
CODEBOOKS = 4


@dataclass(frozen=True)
class Example:
    """One codec, twice."""

    theirs: EncodecModel
    ours: EncodecDecoder

    def random_codes(self, frames: int, batch: int = 1, seed: int = 0) -> Tensor:
        """int64 [batch, K, frames]"""
        config, generator = self.ours.config, torch.Generator().manual_seed(seed)
        return torch.randint(config.codebook_size, (batch, config.num_quantizers, frames), generator=generator)


def codec_config(config: EncodecConfig) -> CodecConfig:
    values = {field.name: getattr(config, field.name) for field in fields(CodecConfig)}
    return CodecConfig(**values | {"upsampling_ratios": tuple(config.upsampling_ratios)})


def random_encodec(seed: int = 0, **overrides: Any) -> EncodecModel:
    """transformers' model with weights that make a lively signal: gains, biases and codebooks all random."""
    config = EncodecConfig(**PUBLISHED_GEOMETRY | overrides)
    config.target_bandwidths = [(CODEBOOKS + 0.5) * config.frame_rate * config.codebook_nbits / 1000]
    model = EncodecModel(config).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith("original0"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("cluster_size", "inited")):
            continue
        elif tensor.dim() == 2:
            tensor.normal_(0, tensor.shape[1] ** -0.5, generator=generator)
        else:
            tensor.normal_(0, 0.3, generator=generator)
    return model


def make_example(dtype: torch.dtype = torch.float32, **overrides: Any) -> Example:
    theirs = random_encodec(**overrides).to(dtype)
    ours = EncodecDecoder.from_state(codec_config(theirs.config), theirs.state_dict(), dtype=dtype)
    return Example(theirs, ours)


@torch.inference_mode()
def their_decode(example: Example, codes: Tensor) -> Tensor:
    """transformers' whole-clip decode. [B, K, F] -> [B, 1, F * hop]"""
    values: Tensor = example.theirs.decode(codes[None], [None]).audio_values
    return values
