"""A checkpoint's files on their way from storage into the page cache, while whoever will read them is busy otherwise.

Replicas of a machine read through one page cache: what the first has had read, the others find there. Where packed
weights were kept (`models.packed`), it is those that will be read, and the checkpoint's are left alone.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from threading import Thread

from models.checkpoint_files import CheckpointFiles
from models.errors import TuttiError
from models.packed.cache import WeightCache
from models.packed.identity import identity_of

SUFFIXES = (".safetensors", ".bin")
# Linux reads no more for one hint than its read-ahead, which is 128 KiB unless somebody changed it.
_HINT_BYTES = 128 << 10


def read_ahead(place: str | Path | CheckpointFiles) -> Thread:
    """Ask the system for the weights of a checkpoint, in a thread of its own: it may wait for the storage.

    Only a hint: what is missing or broken is named by whoever loads it, and a system without such hints reads later.
    """
    thread = Thread(target=_ask, args=(CheckpointFiles.of(place),), name="tutti-read-ahead", daemon=True)
    thread.start()
    return thread


def _ask(files: CheckpointFiles) -> None:
    if not hasattr(os, "posix_fadvise"):
        return
    with suppress(OSError):
        for file in _packed(files) or _originals(files):
            with file.open("rb") as stream:
                for start in range(0, file.stat().st_size, _HINT_BYTES):
                    os.posix_fadvise(stream.fileno(), start, _HINT_BYTES, os.POSIX_FADV_WILLNEED)


def _packed(files: CheckpointFiles) -> list[Path]:
    """What was kept of this checkpoint and used last. In which format it will be wanted is not known yet: mostly in
    that one."""
    with suppress(TuttiError):  # whoever loads it says so
        cache = WeightCache.from_environment()
        if cache.limit_bytes:
            return cache.entries(identity_of(files).digest)[:1]
    return []


def _originals(files: CheckpointFiles) -> list[Path]:
    folders = [folder for folder in (files.folder, files.codec, files.text_encoder) if folder is not None]
    return sorted(each for folder in folders for each in folder.iterdir() if each.suffix in SUFFIXES)
