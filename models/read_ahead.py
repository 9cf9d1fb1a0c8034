"""A checkpoint's files on their way from storage into the page cache, while whoever will read them is busy otherwise.

Replicas of a machine read through one page cache: what the first has had read, the others find there.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from threading import Thread

from models.checkpoint_files import CheckpointFiles

SUFFIXES = (".safetensors", ".bin")
# Linux reads no more for one hint than its read-ahead, which is 128 KiB unless somebody changed it.
_HINT_BYTES = 128 << 10


def read_ahead(place: str | Path | CheckpointFiles) -> Thread:
    """Ask the system for the weights of a checkpoint, in a thread of its own: it may wait for the storage.

    Only a hint: what is missing or broken is named by whoever loads it, and a system without such hints reads later.
    """
    files = CheckpointFiles.of(place)
    folders = [folder for folder in (files.folder, files.codec, files.text_encoder) if folder is not None]
    thread = Thread(target=_ask, args=(folders,), name="tutti-read-ahead", daemon=True)
    thread.start()
    return thread


def _ask(folders: list[Path]) -> None:
    if not hasattr(os, "posix_fadvise"):
        return
    with suppress(OSError):
        for file in sorted(each for folder in folders for each in folder.iterdir() if each.suffix in SUFFIXES):
            with file.open("rb") as stream:
                for start in range(0, file.stat().st_size, _HINT_BYTES):
                    os.posix_fadvise(stream.fileno(), start, _HINT_BYTES, os.POSIX_FADV_WILLNEED)
