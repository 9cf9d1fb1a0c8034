"""A checkpoint folder becomes the four parts an engine runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from models.checkpoint import Checkpoint, load_checkpoint
from models.checkpoint_files import CheckpointFiles
from models.conditioning.melody import MelodyConditioner
from models.conditioning.style import StyleConditioner
from models.conditioning.text import TextConditioner
from models.config import ModelConfig
from models.encodec.decoder import EncodecDecoder
from models.encodec.interface import Codec
from models.encodec.loader import build_codec
from models.engine.codec_graphs import GraphCodec
from models.engine.prompt_encoder import PromptEncoder
from models.engine_config import EngineConfig
from models.errors import InvalidRequestError
from models.kernels.cpu import library
from models.memory import handed_back
from models.musicgen.cpu_decoder import CpuDecoder, why_unsupported
from models.musicgen.decoder import INVARIANT_ROWS, MusicGenDecoder
from models.musicgen.interface import StepDecoder
from models.musicgen.static_decoder import StaticDecoder, StaticOptions
from models.musicgen.weights import rounded_state
from models.packed.cache import WeightCache
from models.packed.parts import take_packed

logger = logging.getLogger(__name__)

Told = Callable[[str], None]
"""Called with the name of each part as soon as it is there: "checkpoint" (looked at), "kernel", "map" (packed weights
that an earlier start kept), "pack" (made now and kept), "decoder", "codec", "text"."""


def nobody(_part: str) -> None:
    """Whom parts are told to if nobody asked."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory. It holds no state of any request, so engines may share it.

    Attributes:
        melody, style: of a model that listens to one; None of any other.
    """

    config: ModelConfig
    decoder: StepDecoder | StaticDecoder
    text: TextConditioner
    codec: Codec
    prompts: PromptEncoder
    melody: MelodyConditioner | None = None
    style: StyleConditioner | None = None

    @property
    def sound(self) -> MelodyConditioner | StyleConditioner | None:
        """What it hears before the text."""
        return self.melody or self.style


def load_model(
    path: str | Path | CheckpointFiles, config: EngineConfig, told: Told = nobody, cache: WeightCache | None = None
) -> LoadedModel:
    """Load a checkpoint of either format onto the device and in the types that the configuration names.

    Args:
        told: of every part that is there, for whoever measures a start.
        cache: of packed weights; None: that of the environment.

    Raises:
        CheckpointError: naming the file, tensor or value that is wrong.
        InvalidRequestError: this machine or this model's shape has not what the settings ask for.
    """
    files = CheckpointFiles.of(path)
    checkpoint = load_checkpoint(files)
    told("checkpoint")
    return _build(checkpoint, config, told, files, cache or WeightCache.from_environment())


def build_model(checkpoint: Checkpoint, config: EngineConfig, told: Told = nobody) -> LoadedModel:
    """The parts of a checkpoint that is in memory.

    Args:
        told: of every part that is there.

    Raises:
        CheckpointError: naming the tensor or value that is wrong.
        InvalidRequestError: this machine or this model's shape has not what the settings ask for.
    """
    return _build(checkpoint, config, told, None, WeightCache.from_environment())


def _build(
    checkpoint: Checkpoint, config: EngineConfig, told: Told, files: CheckpointFiles | None, cache: WeightCache
) -> LoadedModel:
    build = build_static_decoder if config.graph and checkpoint.config.decoder.cross_attention else build_decoder
    if config.device == "cpu" and not config.graph:
        library.why_unavailable()  # compiled or opened now, so that it is no part of the weights' time
    told("kernel")
    with handed_back():  # the text encoder last: the others need room while they are packed
        packed = take_packed(files, checkpoint, config, cache, told)
        decoder = build(checkpoint, config) if packed is None else packed.decoder(checkpoint, config)
        told("decoder")
        codec = build_codec(checkpoint, config) if packed is None else packed.codec(checkpoint, config)
        if isinstance(decoder, StaticDecoder) and config.device != "cpu":
            assert isinstance(codec, EncodecDecoder), "no other codec runs on a GPU: this is a bug"
            codec = GraphCodec.of(codec, config)
        told("codec")
        text = _text(checkpoint, config) if packed is None else packed.text(checkpoint)
    prompts = PromptEncoder(checkpoint.config, checkpoint.codec_state)
    told("text")
    melody = MelodyConditioner.from_checkpoint(checkpoint, config.device)
    style = StyleConditioner.from_checkpoint(checkpoint, config.device)
    return LoadedModel(checkpoint.config, decoder, text, codec, prompts, melody, style)


def _text(checkpoint: Checkpoint, config: EngineConfig) -> TextConditioner:
    return TextConditioner.from_checkpoint(checkpoint, config.device)


def build_static_decoder(checkpoint: Checkpoint, config: EngineConfig) -> StaticDecoder:
    """The transformer for captured steps.

    Raises:
        InvalidRequestError: a kernel's package is missing, or it does not do this model's shape; it says what will.
    """
    weights = "int8" if config.weight_format == "int8" else "model"
    options = StaticOptions(config.attention, config.layers, config.kv, config.text_positions, weights)
    try:
        options.check(checkpoint.config.decoder.head_dim)
    except (ImportError, ValueError) as error:
        raise InvalidRequestError(f"engine settings: {error}", param="attention") from error
    dtype = torch.float32 if config.weight_format == "fp32" else torch.bfloat16
    return StaticDecoder.from_checkpoint(checkpoint, config.device, dtype, options)


def build_decoder(checkpoint: Checkpoint, config: EngineConfig) -> StepDecoder:
    """The transformer for ordinary steps: on a CPU our own kernel where it runs, otherwise torch; the same weights.

    A melody or style model has no other: captured steps compute no prefix, so on a GPU it is slower than models of text
    alone.
    """
    if config.graph:
        logger.warning("this model hears more than text: its steps are not captured, their settings say nothing")
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
