"""Tensors in a checkpoint's files: looked at first, read when they are needed, and all of them accounted for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.checkpoint_files import INDEX, WEIGHTS
from models.config_file import read_json
from models.errors import CheckpointError

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class SeenTensor:
    """A tensor in a file, not read yet.

    Attributes:
        tensor: mapped from the file, so that its shape and type are known.
        read: a copy of its own, which keeps nothing of the file mapped.
    """

    tensor: Tensor
    read: Callable[[], Tensor]


class StoredTensors(Mapping[str, Tensor]):
    """Tensors of a checkpoint's files, read anew whenever one is asked for.

    So a model that keeps its weights in another format never has them in memory twice: what has been packed is gone
    before the next is read.

    Raises:
        CheckpointError: (on access) the file has gone or changed since the checkpoint was loaded.
    """

    def __init__(self, seen: Mapping[str, SeenTensor]) -> None:
        self._reads = {name: each.read for name, each in seen.items()}

    def __getitem__(self, name: str) -> Tensor:
        return self._reads[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._reads)

    def __len__(self) -> int:
        return len(self._reads)


def look_into(folder: Path) -> dict[str, SeenTensor]:
    """Every tensor of a folder's safetensors files, by its name in them.

    Raises:
        CheckpointError: naming the file that is missing or broken.
    """
    tensors: dict[str, SeenTensor] = {}
    for file in _weight_files(folder):
        try:
            with safe_open(file, framework="pt") as stored:
                for name in stored.keys():  # noqa: SIM118 no mapping
                    tensors[name] = SeenTensor(stored.get_tensor(name), partial(_read, file, name))
        except FileNotFoundError:
            raise CheckpointError(f"{file} is missing") from None
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file} can not be read, copy it again: {error}") from error
    return tensors


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
    refuse_left_over(f"{part}.{name}" for name in state if name not in shapes)


def refuse_left_over(names: Iterable[str]) -> None:
    """
    Raises:
        CheckpointError: naming the first of these, if there are any.
    """
    left = sorted(names)
    if left:
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        listed = ", ".join(left[:3])
        raise CheckpointError(f"the checkpoint holds tensors that its config has no place for: {listed}{more}")


def _read(file: Path, name: str) -> Tensor:
    try:
        with safe_open(file, framework="pt") as stored:
            # A copy: what is read is a view of the file, and would keep all of it mapped.
            tensor: Tensor = stored.get_tensor(name).clone()
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} was changed or removed while the model was loading: {error}") from error
    return tensor


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
