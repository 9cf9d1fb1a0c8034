"""A checkpoint folder becomes the four parts an engine runs."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from models.checkpoint import Checkpoint, load_checkpoint
from models.conditioning.text import TextConditioner
from models.config import ModelConfig
from models.encodec.decoder import EncodecDecoder
from models.engine_config import EngineConfig
from models.kernels.cpu import library
from models.musicgen.cpu_decoder import CpuDecoder, why_unsupported
from models.musicgen.decoder import INVARIANT_ROWS, MusicGenDecoder
from models.musicgen.interface import Decoder
from models.musicgen.weights import rounded_state

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory. It holds no state of any request, so engines may share it."""

    config: ModelConfig
    decoder: Decoder
    text: TextConditioner
    codec: EncodecDecoder


def load_model(path: str | Path, config: EngineConfig) -> LoadedModel:
    """Load a transformers folder onto the device and in the types that the configuration names.

    Raises:
        CheckpointError: naming the file, tensor or value that is wrong.
    """
    return build_model(load_checkpoint(path), config)


def build_model(checkpoint: Checkpoint, config: EngineConfig) -> LoadedModel:
    """The parts of a checkpoint that is in memory.

    Raises:
        CheckpointError: naming the tensor or value that is wrong.
    """
    return LoadedModel(
        config=checkpoint.config,
        decoder=build_decoder(checkpoint, config),
        text=TextConditioner.from_checkpoint(checkpoint, config.device),
        codec=EncodecDecoder.from_checkpoint(checkpoint, config.device, torch_dtype(config.codec_dtype)),
    )


def build_decoder(checkpoint: Checkpoint, config: EngineConfig) -> Decoder:
    """The transformer: on a CPU our own kernel where it runs, otherwise torch, with the same numbers as weights."""
    if config.device == "cpu":
        reason = why_unsupported(checkpoint.config.decoder) or library.why_unavailable()
        if reason is None:
            return CpuDecoder.from_checkpoint(checkpoint, config.weight_format)
        logger.warning("torch computes the steps of this model, several times slower than our CPU kernel: %s", reason)
    dtype = torch.float32 if config.weight_format == "fp32" else torch.bfloat16
    if config.weight_format in ("int8", "int4"):
        rounded = rounded_state(checkpoint.decoder_state, config.weight_format)
        checkpoint = replace(checkpoint, decoder_state=rounded)
    multiple = INVARIANT_ROWS if _pads_rows(config, dtype) else 1
    return MusicGenDecoder.from_checkpoint(checkpoint, config.device, dtype, multiple)


def _pads_rows(config: EngineConfig, dtype: torch.dtype) -> bool:
    """Padding is known to make torch's rows independent of one another on CPUs in float32 only."""
    return config.batch_invariant and config.device == "cpu" and dtype == torch.float32


def torch_dtype(name: str) -> torch.dtype:
    """The type of that name; the configuration has checked that there is one."""
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype), f"{name} is no torch type"
    return dtype
