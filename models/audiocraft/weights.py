"""The tensors of an audiocraft checkpoint under transformers' names, mapped from their files and not copied.

``torch.load`` reads with ``weights_only=True``: whatever is not a tensor or a plain value is refused, and nothing in
the file can run. It maps the file, so only what is asked for is read; the mapping ends with the last reference to it.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.audiocraft import style
from models.audiocraft.config import read_audiocraft
from models.audiocraft.names import MELODY_PROJECTION, PROJECTION, TOLERATED, codec_name, language_model_name
from models.checkpoint_files import COMPRESSION_MODEL, LANGUAGE_MODEL, TENSORS, CheckpointFiles, has_weights
from models.checkpoint_tensors import SeenTensor, check_tensors, look_into
from models.config import DecoderConfig, ModelConfig
from models.errors import CheckpointError
from models.musicgen.weights import expected_shapes, melody_projection_shapes, projection_shapes

Parts = dict[str, dict[str, SeenTensor]]

# A T5 as it is published has a decoder as well, which nobody here asks.
_TEXT_PARTS = ("shared.", "encoder.")


def look_at_audiocraft(files: CheckpointFiles) -> tuple[ModelConfig, Parts, Path]:
    """Configuration, tensors by part and by transformers' names, and the tokenizer's folder.

    Raises:
        CheckpointError: naming the file that is missing or broken, the setting that is not supported, or the tensor of
            ``best_state`` that is missing, left over or misshapen.
    """
    model = read_audiocraft(files)
    state = _accounted(files.folder / LANGUAGE_MODEL, model.config)
    if model.codec is None:
        codec = {codec_name(name): _seen(each) for name, each in _state(files.folder / COMPRESSION_MODEL).items()}
    else:
        codec = look_into(model.codec)
    text = look_into(model.text_encoder)
    parts = {
        "decoder": _decoder(state, model.config.decoder),
        "enc_to_dec_proj": _below(PROJECTION, state),
        "audio_enc_to_dec_proj": _below(MELODY_PROJECTION, state) if model.config.takes_melody else {},
        "audio_encoder": codec,
        "text_encoder": {name: each for name, each in text.items() if name.startswith(_TEXT_PARTS)},
    }
    if model.style_encoder is not None:
        parts["style"] = {
            name.removeprefix(style.PREFIX): _seen(each)
            for name, each in state.items()
            if name.startswith(style.PREFIX)
        }
        parts["style_encoder"] = _style_encoder(model.style_encoder)
    return model.config, parts, model.text_encoder


def _accounted(file: Path, config: ModelConfig) -> dict[str, Tensor]:
    """``best_state``, in which nothing is missing and nothing left over."""
    state = {name: each for name, each in _state(file).items() if not _is_tolerated(name, config)}
    shapes = _their_shapes(config.decoder)
    if config.style is not None:
        wanted = config.style.shapes(config.decoder.hidden_size)
        shapes |= {f"{style.PREFIX}{name}": shape for name, shape in wanted.items()}
    shapes |= {f"{PROJECTION}.{part}": shape for part, shape in projection_shapes(config.decoder).items()}
    shapes |= {f"{MELODY_PROJECTION}.{part}": shape for part, shape in melody_projection_shapes(config).items()}
    check_tensors("best_state", state, shapes)
    return state


def _is_tolerated(name: str, config: ModelConfig) -> bool:
    if config.takes_melody:
        return name in TOLERATED
    return config.style is not None and style.TOLERATED.fullmatch(name) is not None


def _style_encoder(folder: Path) -> dict[str, SeenTensor]:
    """Those of MERT, which is published as a file of ``torch.save`` that holds tensors alone."""
    if has_weights(folder):
        return look_into(folder)
    state = _loaded(folder / TENSORS)
    if not isinstance(state, Mapping) or not all(isinstance(each, Tensor) for each in state.values()):
        raise CheckpointError(f"{folder / TENSORS} holds more than tensors by their names")
    return {name: _seen(each) for name, each in state.items()}


def _decoder(state: Mapping[str, Tensor], config: DecoderConfig) -> dict[str, SeenTensor]:
    decoder = {}
    for name, shape in expected_shapes(config).items():
        theirs, third = language_model_name(name)
        rows = state[theirs]
        decoder[name] = _seen(rows if third is None else rows[third * shape[0] : (third + 1) * shape[0]])
    return decoder


def _below(name: str, state: Mapping[str, Tensor]) -> dict[str, SeenTensor]:
    """Weight and bias, if they are there."""
    return {part: _seen(state[f"{name}.{part}"]) for part in ("weight", "bias") if f"{name}.{part}" in state}


def _their_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for name, shape in expected_shapes(config).items():
        theirs, third = language_model_name(name)
        shapes[theirs] = shape if third is None else (3 * shape[0], *shape[1:])
    return shapes


def _state(file: Path) -> Mapping[str, Tensor]:
    """``best_state`` of a file that audiocraft exported."""
    state = _loaded(file).get("best_state")
    if not isinstance(state, Mapping) or not all(isinstance(each, Tensor) for each in state.values()):
        raise CheckpointError(f"{file} has no best_state of tensors: export the model with audiocraft.utils.export")
    return state


def _loaded(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing") from None
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{file} can not be loaded as tensors and plain values alone: {reason}") from error


def _seen(tensor: Tensor) -> SeenTensor:
    return SeenTensor(tensor, partial(torch.clone, tensor, memory_format=torch.contiguous_format))
