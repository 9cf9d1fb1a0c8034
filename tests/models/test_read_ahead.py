"""Weights on their way before they are asked for; what is not there is left to whoever loads it."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from pathlib import Path

import pytest

from models.checkpoint_files import CheckpointFiles
from models.read_ahead import read_ahead


def in_page_cache(file: Path) -> float:
    """Share of a file's pages."""
    size = file.stat().st_size
    pages = -(-size // mmap.PAGESIZE)
    found = (ctypes.c_ubyte * pages)()
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_COPY) as mapped:
        view = (ctypes.c_ubyte * size).from_buffer(mapped)
        libc = ctypes.CDLL(None, use_errno=True)
        done = libc.mincore(ctypes.c_void_p(ctypes.addressof(view)), ctypes.c_size_t(size), found)
        del view
        assert done == 0, os.strerror(ctypes.get_errno())
    return sum(each & 1 for each in found) / pages


def test_weights_that_were_forgotten_come_back(tmp_path: Path) -> None:
    folder, codec = tmp_path / "model", tmp_path / "codec"
    for each in (folder, codec):
        each.mkdir()
        (each / "model.safetensors").write_bytes(os.urandom(8 << 20))
    files = [each / "model.safetensors" for each in (folder, codec)]
    for file in files:
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if max(map(in_page_cache, files)) > 0:
        pytest.skip("this file system keeps its files in memory")
    read_ahead(CheckpointFiles(folder, codec=codec)).join()
    deadline = time.monotonic() + 60
    while min(map(in_page_cache, files)) < 1 and time.monotonic() < deadline:
        os.sched_yield()
    assert min(map(in_page_cache, files)) == 1


def test_a_folder_that_is_not_there_is_nobodys_error_yet(tmp_path: Path) -> None:
    thread = read_ahead(tmp_path / "nowhere")
    thread.join()
    assert not thread.is_alive()
