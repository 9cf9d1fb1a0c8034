"""The file of packed weights: tensors at multiples of 64 bytes, as the kernel wants them, and where they are.

    magic, place and length of the index, its SHA-256     64 bytes, written last
    tensors
    index: JSON, name → [type, shape, place]              up to the end of the file

Reading maps it and looks at nothing but the index: a tensor's numbers come from the page cache, which the replicas of
a machine share, when they are first used. Nobody can write to them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import struct
import warnings
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MAGIC = b"TUTTIPW1"
_PREFIX = struct.Struct("<8sQQ32s")
_ALIGNMENT = 64
_TYPES = {str(each).removeprefix("torch."): each for each in (torch.float32, torch.bfloat16, torch.int8, torch.uint8)}
_UNWRITABLE = "The given buffer is not writable"


class DamagedFileError(Exception):
    """It is not what was written; the message says in what."""


class PackedWriter:
    """Writes tensors one after the other, so that no two need be in memory.

    Args:
        stream: empty.
        room: bytes that the file may have.

    Raises:
        OSError: (from every call) it can not be written, or there would be more than ``room``.
    """

    def __init__(self, stream: FileIO, room: int) -> None:
        self._stream, self._room = stream, room
        self._end = _ALIGNMENT
        self._index: dict[str, tuple[str, list[int], int]] = {}
        self._write(0, bytes(_ALIGNMENT))

    def add(self, name: str, tensor: Tensor) -> None:
        """A tensor of any shape, not empty."""
        kind = str(tensor.dtype).removeprefix("torch.")
        assert kind in _TYPES, f"{name} is of type {kind}, which is not kept: a bug"
        assert name not in self._index, f"{name} twice: a bug"
        place = -(-self._end // _ALIGNMENT) * _ALIGNMENT
        self._write(place, tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().data)
        self._index[name] = (kind, list(tensor.shape), place)

    def finish(self) -> None:
        """Without this the file is none."""
        index = json.dumps(self._index).encode()
        place = self._end
        self._write(place, index)
        os.pwrite(self._stream.fileno(), _PREFIX.pack(MAGIC, place, len(index), hashlib.sha256(index).digest()), 0)

    def _write(self, place: int, content: bytes | memoryview) -> None:
        left = memoryview(content)
        if place + len(left) > self._room:
            raise OSError(errno.ENOSPC, f"more than the {self._room / 1e9:.1f} GB that are left for it")
        while left:
            done = os.pwrite(self._stream.fileno(), left, place)
            left, place = left[done:], place + done
        self._end = place


def open_packed(file: Path) -> dict[str, Tensor]:
    """Every tensor by its name, mapped; the file stays mapped as long as one of them is alive.

    Raises:
        OSError: it is not there or can not be read.
        DamagedFileError: it is shorter or longer than when it was written, or its index is not what it was.
    """
    with file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        index = _index(stream.read(_PREFIX.size), stream.fileno(), size)
        mapped = mmap.mmap(stream.fileno(), size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    mapped.madvise(mmap.MADV_WILLNEED)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_UNWRITABLE)  # as it should be
        whole = torch.frombuffer(mapped, dtype=torch.uint8)
    return {name: _tensor(whole, *each) for name, each in index.items()}


def _index(prefix: bytes, descriptor: int, size: int) -> dict[str, Any]:
    if len(prefix) < _PREFIX.size:
        raise DamagedFileError(f"it has only {size} bytes")
    magic, place, length, digest = _PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise DamagedFileError("it does not begin as such a file does")
    if place + length != size:
        raise DamagedFileError(f"it has {size} bytes instead of {place + length}")
    content = os.pread(descriptor, length, place)
    if hashlib.sha256(content).digest() != digest:
        raise DamagedFileError("its index is not what was written")
    index: dict[str, Any] = json.loads(content)
    return index


def _tensor(whole: Tensor, kind: str, shape: list[int], place: int) -> Tensor:
    kept = _TYPES[kind]
    num_bytes = torch.Size(shape).numel() * kept.itemsize
    return whole[place : place + num_bytes].view(kept).view(shape)
