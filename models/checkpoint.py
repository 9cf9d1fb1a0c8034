"""Loads a checkpoint folder in transformers format and accounts for every tensor in it.

    config.json   model.safetensors (or model.safetensors.index.json and its shards)   tokenizer.json …

The decoder's tensors and the text projection are checked here; those of the codec and of the text encoder by the
parts that use them, when they are built.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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


class StoredTensors(Mapping[str, Tensor]):
    """Tensors of a checkpoint's files, read anew whenever one is asked for.

    So a model that keeps its weights in another format never has them in memory twice: what has been packed is gone
    before the next is read.

    Args:
        places: name here → file, and name in it.

    Raises:
        CheckpointError: (on access) the file has gone or changed since the checkpoint was loaded.
    """

    def __init__(self, places: Mapping[str, tuple[Path, str]]) -> None:
        self._places = places

    def __getitem__(self, name: str) -> Tensor:
        file, stored_name = self._places[name]
        try:
            with safe_open(file, framework="pt") as stored:
                # A copy: what is read is a view of the file, and would keep all of it mapped.
                tensor: Tensor = stored.get_tensor(stored_name).clone()
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file} was changed or removed while the model was loading: {error}") from error
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


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
    """Read the configuration and look at every tensor; their numbers are read by the parts that use them.

    Raises:
        CheckpointError: naming the file that is missing or broken, the unsupported config value, or the tensor that is
            missing, left over, misshapen or of a type that can not be served.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder: a checkpoint is a folder in transformers format")
    config = ModelConfig.from_folder(folder)
    parts = _split(_look_at_tensors(folder))
    decoder = {name: each for name, each in parts["decoder"].items() if name not in TOLERATED_DECODER}
    check_tensors("decoder", _seen(decoder), expected_shapes(config.decoder))
    check_tensors("enc_to_dec_proj", _seen(parts["enc_to_dec_proj"]), _projection_shapes(config))
    return Checkpoint(
        folder=folder,
        config=config,
        decoder_state=_stored("decoder", decoder),
        codec_state=_stored("audio_encoder", parts["audio_encoder"]),
        text_state=_stored("text_encoder", parts["text_encoder"]),
        enc_to_dec_proj=_stored("enc_to_dec_proj", parts["enc_to_dec_proj"]) or None,
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """A tensor in a file: mapped, so that its shape and type are known, and not read."""

    file: Path
    tensor: Tensor


def _seen(part: Mapping[str, _Seen]) -> dict[str, Tensor]:
    return {name: each.tensor for name, each in part.items()}


def _stored(prefix: str, part: Mapping[str, _Seen]) -> StoredTensors:
    return StoredTensors({name: (each.file, f"{prefix}.{name}") for name, each in part.items()})


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


def _look_at_tensors(folder: Path) -> dict[str, _Seen]:
    tensors: dict[str, _Seen] = {}
    for file in _weight_files(folder):
        try:
            with safe_open(file, framework="pt") as stored:
                for name in stored.keys():  # noqa: SIM118 no mapping
                    tensors[name] = _Seen(file, stored.get_tensor(name))
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


def _split(tensors: Mapping[str, _Seen]) -> dict[str, dict[str, _Seen]]:
    parts: dict[str, dict[str, _Seen]] = {part: {} for part in PARTS}
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
