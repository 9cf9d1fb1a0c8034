"""Ways to capture the step that are compared, and the settings of an engine that runs one of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch

from models.engine.loader import torch_dtype
from models.engine_config import EngineConfig

Variant = Mapping[str, str]
"""``attention``, ``layers`` and ``kv`` of `EngineConfig`."""


def variant(attention: str, layers: str, kv: str = "model") -> Variant:
    return MappingProxyType({"attention": attention, "layers": layers, "kv": kv})


def name_of(chosen: Variant) -> str:
    return "/".join(chosen.values())


def graph_config(device: str, dtype: torch.dtype, chosen: Variant, **settings: object) -> EngineConfig:
    """Captured steps; decoder and codec in one type."""
    name = str(dtype).removeprefix("torch.")
    assert torch_dtype(name) == dtype, f"{dtype} has no name: this is a bug"
    return EngineConfig(device=device, dtype=name, codec_dtype=name, graph=True, **chosen, **settings)  # type: ignore[arg-type]
