"""Ways to capture the step that are compared, and the settings of an engine that runs one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch

from models.checkpoint import Checkpoint
from models.engine_config import EngineConfig

Variant = Mapping[str, str]
"""``attention``, ``layers``, ``kv`` and, where they are not those of the type, ``weights`` of `EngineConfig`."""


def variant(attention: str, layers: str, kv: str = "model", **weights: str) -> Variant:
    return MappingProxyType({"attention": attention, "layers": layers, "kv": kv, **weights})


def name_of(chosen: Variant) -> str:
    return "/".join(chosen.values())


def graph_config(device: str, dtype: torch.dtype, chosen: Variant, **settings: object) -> EngineConfig:
    """Captured steps; decoder and codec in one type. On a CPU, where nothing is timed, with one thread."""
    name = str(dtype).removeprefix("torch.")
    given: dict[str, Any] = {"num_threads": 1 if device == "cpu" else None, **chosen, **settings}
    return EngineConfig(device=device, dtype=name, codec_dtype=name, graph=True, **given)


def shortened(checkpoint: Checkpoint, seconds: float) -> Checkpoint:
    """A model of shorter tracks, for a quick run: what is kept for the longest one is smaller."""
    return replace(checkpoint, config=replace(checkpoint.config, max_duration_s=seconds))
