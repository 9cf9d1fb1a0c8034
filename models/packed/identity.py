"""Which checkpoint a folder holds, told without reading its gigabytes. No torch here.

Packed weights are kept under this, so it must change whenever the weights do. Sizes and times of files alone do not: a
copy with preserved times, or an image whose files are all of one date, puts other weights of the same shape under the
same size and time. So parts of each file's content are looked at as well, its header and 64 places all over it, and
the time at which the system last saw it change (ctime), which nobody can set. What that sees too much of (a file that
was only renamed or whose owner changed) costs one packing.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from models.checkpoint_files import CheckpointFiles, files_that_matter, parts_of
from models.errors import CheckpointError

# Configurations, indices and tokenizers, read as a whole.
_WHOLE_BYTES = 8 << 20
# The header of a safetensors file: some 100 bytes for each of at most a few thousand tensors.
_HEAD_BYTES = 512 << 10
_PLACES, _PLACE_BYTES = 64, 4 << 10


@dataclass(frozen=True, slots=True)
class Identity:
    """
    Attributes:
        digest: hexadecimal.
        num_bytes: of all its files.
    """

    digest: str
    num_bytes: int


def identity_of(files: CheckpointFiles) -> Identity:
    """Of a checkpoint of either format, its codec and text encoder included.

    Raises:
        CheckpointError: it is none, or a file can not be read.
    """
    digest, num_bytes = hashlib.sha256(), 0
    try:
        for folder, format in parts_of(files):  # noqa: A001 the field's own name
            for file in files_that_matter(folder, format):
                status = file.stat()
                said = f"{file.name} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\0"
                digest.update(said.encode())
                digest.update(_looked_at(file, status.st_size))
                num_bytes += status.st_size
    except OSError as error:
        raise CheckpointError(f"{error.filename or files.folder} can not be read: {error.strerror}") from error
    return Identity(digest.hexdigest()[:24], num_bytes)


def _looked_at(file: Path, size: int) -> bytes:
    """SHA-256 of a small file, or of parts of a large one."""
    digest = hashlib.sha256()
    with file.open("rb", buffering=0) as stream:
        if size <= _WHOLE_BYTES:
            digest.update(stream.read())
            return digest.digest()
        digest.update(os.pread(stream.fileno(), _HEAD_BYTES, 0))
        last = size - _PLACE_BYTES
        for place in range(1, _PLACES + 1):
            digest.update(os.pread(stream.fileno(), _PLACE_BYTES, last * place // _PLACES))
    return digest.digest()
