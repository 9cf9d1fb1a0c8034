"""Reads the plain values of a file that ``torch.save`` wrote, without torch and without running anything in it.

Such a file is a zip archive with a pickle, ``data.pkl``, that refers to the tensors' bytes beside it. The pickle is
read by an unpickler that knows tensors, which become nothing, and ordered dictionaries; it refuses everything else by
name. Who needs the tensors themselves loads the file with ``torch.load(…, weights_only=True)``.
"""

from __future__ import annotations

import io
import pickle
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.errors import CheckpointError

# What damaged bytes make of zipfile and pickle; a RuntimeError where they say that they are encrypted.
# fmt: off
_BROKEN = (
    OSError, EOFError, ValueError, TypeError, AttributeError, LookupError, RuntimeError, ArithmeticError, zlib.error,
    pickle.UnpicklingError,
)
# fmt: on
_LARGEST_PICKLE = 64 << 20  # bytes; that of 3.3 B parameters takes less than one megabyte


def read_values(file: Path) -> dict[str, Any]:
    """What the file holds, by name; tensors are None.

    Raises:
        CheckpointError: the file is missing, cut short, not of ``torch.save``, or holds more than tensors and plain
            values.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            values = _Unpickler(io.BytesIO(_pickle_of(file, archive))).load()
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing: a checkpoint in audiocraft format has it") from None
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{file} was not written by torch.save, or was cut short: copy it again") from error
    except _BROKEN as error:
        raise CheckpointError(f"{file} can not be read: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{file} must hold a dictionary, as audiocraft exports it")
    return values


def _pickle_of(file: Path, archive: zipfile.ZipFile) -> bytes:
    found = [entry for entry in archive.infolist() if entry.filename.partition("/")[2] == "data.pkl"]
    if len(found) != 1 or found[0].file_size > _LARGEST_PICKLE:
        raise CheckpointError(f"{file} is not a file of torch.save: it has no data.pkl of a sensible size")
    return archive.read(found[0])


def _no_tensor(*_: object) -> None:
    """What every tensor becomes."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., object]:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name.startswith("_rebuild_"):
            return _no_tensor
        if module == "torch" and (name.endswith("Storage") or name == "Size"):
            return _no_tensor
        raise pickle.UnpicklingError(f"it holds {module}.{name}, and only tensors and plain values are read")

    def persistent_load(self, _: object) -> None:
        """A tensor's bytes."""
