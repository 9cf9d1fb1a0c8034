"""Formats of the decoder's weights: what they are called, what they weigh, and how an engine is asked for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from models.engine_config import WEIGHT_FORMATS, EngineConfig

BYTES_PER_WEIGHT: Mapping[str, float] = {"fp32": 4, "bf16": 2, "int8": 1, "int4": 0.5}
"""Scales of the integer formats are left out: they are small, and a ceiling may be too high but never too low."""

FORMATS = WEIGHT_FORMATS
EXACT = "fp32"
"""The only format in which two implementations must agree code by code."""

PRECISIONS: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""What the peers can run in."""


def arithmetic(weights: str) -> torch.dtype:
    """The type that products of such weights are computed in, or at least could be."""
    return torch.float32 if weights == EXACT else torch.bfloat16


def kv_itemsize(weights: str, device: str) -> int:
    """Bytes of a stored key or value: in float32 what exactness takes, else two, which any format but 8-bit KV does."""
    return 4 if device == "cpu" and weights == EXACT else 2


def engine_config(weights: str, **settings: Any) -> EngineConfig:
    """The engine's configuration for weights of this format; the codec is as exact as they are.

    Raises:
        InvalidRequestError: this engine has no such format, or a setting is out of range.
    """
    dtype = "float32" if weights == EXACT else "bfloat16"
    return EngineConfig(weights=weights, dtype=dtype, codec_dtype=dtype, **settings)
