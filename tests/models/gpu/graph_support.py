"""The small model of the engine's tests as a static step, on a CPU."""

from __future__ import annotations

import tempfile
from functools import cache
from typing import Any

import torch

from benchmarks.gpu.graph_engine import GraphEngine, graph_model
from models.checkpoint import Checkpoint, load_checkpoint
from models.engine.loader import LoadedModel
from models.engine_config import EngineConfig
from models.musicgen.static_decoder import StaticOptions
from tests.factories import make_checkpoint

SDPA = StaticOptions(attention="sdpa", layers="torch")


@cache
def small_checkpoint(stereo: bool = False) -> Checkpoint:
    """The weights of `tests.models.engine_support.small_model`."""
    with tempfile.TemporaryDirectory() as folder:
        shape: dict[str, Any] = {"hidden": 32, "layers": 2, "heads": 4, "ffn": 64, "vocab": 64, "filters": 2}
        return load_checkpoint(make_checkpoint(folder, **shape, stereo=stereo, ratios=(4, 2)))


@cache
def static_model(options: StaticOptions = SDPA, stereo: bool = False) -> LoadedModel:
    with tempfile.TemporaryDirectory() as folder:
        shape: dict[str, Any] = {"hidden": 32, "layers": 2, "heads": 4, "ffn": 64, "vocab": 64, "filters": 2}
        checkpoint = load_checkpoint(make_checkpoint(folder, **shape, stereo=stereo, ratios=(4, 2)))
        return graph_model(checkpoint, "cpu", torch.float32, options)


def graph_engine(
    options: StaticOptions = SDPA, *, run_ahead: int = 0, stereo: bool = False, **config: Any
) -> GraphEngine:
    settings = EngineConfig(**{"return_codes": True, "num_threads": 1, **config})
    return GraphEngine(static_model(options, stereo), settings, run_ahead)
