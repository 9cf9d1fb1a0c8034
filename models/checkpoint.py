"""Loads a checkpoint folder in transformers format and accounts for every tensor in it.

    config.json   model.safetensors (or model.safetensors.index.json and its shards)   tokenizer.json …

The decoder's tensors and the text projection are checked here; those of the codec and of the text encoder by the
parts that use them, when they are built.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.config import ModelConfig
from models.config_file import read_json
from models.errors import CheckpointError
from models.musicgen.weights import expected_shapes

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

PARTS = ("decoder", "audio_encoder", "text_encoder", "enc_to_dec_proj")

# transformers computes these itself; older versions wrote them to the file all the same.
TOLERATED_DECODER = frozenset(("model.decoder.embed_positions.weights",))

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Tensors by their transformers names, in the file's own dtypes.

    Attributes:
        folder: where it lies; the tokenizer is read from there.
        decoder_state: names below ``decoder.``.
        codec_state: names below ``audio_encoder.``.
        text_state: names below ``text_encoder.``.
        enc_to_dec_proj: ``weight`` [D, D_text] and ``bias`` [D], or None where the widths are equal.
    """

    folder: Path
    config: ModelConfig
    decoder_state: Mapping[str, Tensor]
    codec_state: Mapping[str, Tensor]
    text_state: Mapping[str, Tensor]
    enc_to_dec_proj: Mapping[str, Tensor] | None


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read configuration and tensors.

    Raises:
        CheckpointError: naming the file that is missing or broken, the unsupported config value, or the tensor that is
            missing, left over, misshapen or of a type that can not be served.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder: a checkpoint is a folder in transformers format")
    config = ModelConfig.from_folder(folder)
    parts = _split(_read_tensors(folder))
    decoder = {name: tensor for name, tensor in parts["decoder"].items() if name not in TOLERATED_DECODER}
    check_tensors("decoder", decoder, expected_shapes(config.decoder))
    check_tensors("enc_to_dec_proj", parts["enc_to_dec_proj"], _projection_shapes(config))
    return Checkpoint(
        folder=folder,
        config=config,
        decoder_state=decoder,
        codec_state=parts["audio_encoder"],
        text_state=parts["text_encoder"],
        enc_to_dec_proj=parts["enc_to_dec_proj"] or None,
    )


def check_tensors(part: str, state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Every expected tensor is there, of its shape and a servable type, and no other.

    Raises:
        CheckpointError: naming the tensor.
    """
    for name, shape in shapes.items():
        tensor = state.get(name)
        if tensor is None:
            raise CheckpointError(f"the checkpoint has no tensor {part}.{name}, which its config calls for")
        if tuple(tensor.shape) != shape:
            raise CheckpointError(f"{part}.{name} has shape {tuple(tensor.shape)}, the config calls for {shape}")
        if tensor.dtype not in DTYPES:
            wanted = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
            raise CheckpointError(f"{part}.{name} is of type {tensor.dtype}, it must be one of {wanted}")
    _refuse_left_over(f"{part}.{name}" for name in state if name not in shapes)


def _projection_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    decoder = config.decoder
    if not decoder.has_text_projection:
        return {}
    return {"weight": (decoder.hidden_size, decoder.text_hidden_size), "bias": (decoder.hidden_size,)}


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for file in _weight_files(folder):
        try:
            with safe_open(file, framework="pt") as stored:
                tensors.update((name, stored.get_tensor(name)) for name in stored.keys())  # noqa: SIM118 no mapping
        except FileNotFoundError:
            raise CheckpointError(f"{file} is missing") from None
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file} can not be read, copy it again: {error}") from error
    return tensors


def _weight_files(folder: Path) -> list[Path]:
    index = folder / INDEX
    if (folder / WEIGHTS).is_file() or not index.is_file():
        return [folder / WEIGHTS]
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map")
    names = sorted({str(name) for name in weight_map.values()})
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise CheckpointError(f"{index} names a file outside its folder: {outside[0]}")
    return [folder / name for name in names]


def _split(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    _refuse_left_over(f"{part}.{name}" for part in parts.keys() - set(PARTS) for name in parts[part])
    return parts


def _refuse_left_over(names: Iterable[str]) -> None:
    left = sorted(names)
    if left:
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        listed = ", ".join(left[:3])
        raise CheckpointError(f"the checkpoint holds tensors that its config has no place for: {listed}{more}")
