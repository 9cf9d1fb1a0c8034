"""Who decodes: our kernel on a CPU where it runs, otherwise torch."""

from __future__ import annotations

import logging

import torch

from models.checkpoint import Checkpoint
from models.encodec.cpu_decoder import CpuEncodecDecoder, why_unsupported
from models.encodec.decoder import EncodecDecoder
from models.encodec.interface import Codec
from models.engine_config import EngineConfig
from models.kernels.cpu import library

logger = logging.getLogger(__name__)


def build_codec(checkpoint: Checkpoint, config: EngineConfig) -> Codec:
    """The codec of a checkpoint, on the device and in the type that the configuration names.

    Raises:
        CheckpointError: a tensor is missing, left over or misshapen, or the codec's geometry is not supported.
    """
    if config.device != "cpu":
        return EncodecDecoder.from_checkpoint(checkpoint, config.device, _dtype(config.codec_type))
    reason = why_unsupported(checkpoint.config.codec) or library.why_unavailable()
    if reason is None:
        return CpuEncodecDecoder(EncodecDecoder.from_checkpoint(checkpoint), cpu_codec_format(config))
    logger.warning("torch decodes the codes of this model, several times slower than our CPU kernel: %s", reason)
    # bfloat16 is worse and no faster there, so it is used only if it was asked for.
    return EncodecDecoder.from_checkpoint(checkpoint, config.device, _dtype(config.codec_dtype or "float32"))


def cpu_codec_format(config: EngineConfig) -> str:
    """The format in which our kernel has the codec's weights."""
    return "fp32" if config.codec_type == "float32" else "bf16"


def _dtype(name: str) -> torch.dtype:
    """The type of that name; the configuration has checked that there is one."""
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype), f"{name} is no torch type"
    return dtype
