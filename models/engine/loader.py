"""A checkpoint folder becomes the four parts an engine runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from models.checkpoint import load_checkpoint
from models.conditioning.text import TextConditioner
from models.config import EngineConfig, ModelConfig
from models.encodec.decoder import EncodecDecoder
from models.musicgen.decoder import INVARIANT_ROWS, MusicGenDecoder


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory. It holds no state of any request, so engines may share it."""

    config: ModelConfig
    decoder: MusicGenDecoder
    text: TextConditioner
    codec: EncodecDecoder


def load_model(path: str | Path, config: EngineConfig) -> LoadedModel:
    """Load a transformers folder onto the device and in the types that the configuration names.

    Raises:
        CheckpointError: naming the file, tensor or value that is wrong.
    """
    checkpoint = load_checkpoint(path)
    return LoadedModel(
        config=checkpoint.config,
        decoder=MusicGenDecoder.from_checkpoint(
            checkpoint, config.device, torch_dtype(config.dtype), INVARIANT_ROWS if _pads_rows(config) else 1
        ),
        text=TextConditioner.from_checkpoint(checkpoint, config.device),
        codec=EncodecDecoder.from_checkpoint(checkpoint, config.device, torch_dtype(config.codec_dtype)),
    )


def _pads_rows(config: EngineConfig) -> bool:
    """Padding is known to make rows independent of one another on CPUs in float32 only."""
    return config.batch_invariant and config.device == "cpu" and config.dtype == "float32"


def torch_dtype(name: str) -> torch.dtype:
    """The type of that name; the configuration has checked that there is one."""
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype), f"{name} is no torch type"
    return dtype
