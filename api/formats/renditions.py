"""Files of finished tracks: cut from the stored samples where that is arithmetic, else encoded once and kept a while.

Encoding a second of audio takes 0.3 ms (FLAC) to 18 ms (Opus, stereo) of one core, and a player that seeks asks for
the same file again and again, so what was encoded last is kept in memory. It is not stored: an object for each format
would have to be found and removed with its track, to save less time than fetching it takes.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Protocol

from api.errors import ApiError, ErrorCode
from api.formats.base import FloatSamples
from api.formats.track_file import FinishedTrack, TrackFile

MAX_CACHE_BYTES = 64 * 2**20
MAX_RUNNING = 32
_BLOCK_S = 4
_RETRY_S = 2.0


class Source(Protocol):
    """Where the samples come from: ``AudioLibrary``."""

    def blocks(self, row: FinishedTrack, num_samples: int, first_sample: int = 0) -> AsyncIterator[FloatSamples]: ...


class Renditions:
    """Encodes files, a few at a time, each once however many ask for it."""

    def __init__(self, source: Source, max_cache_bytes: int = MAX_CACHE_BYTES) -> None:
        self._source = source
        self._max_bytes = max_cache_bytes
        self._files: OrderedDict[TrackFile, bytes] = OrderedDict()
        self._bytes = 0
        self._running: dict[TrackFile, asyncio.Task[bytes]] = {}
        self._places = asyncio.Semaphore(os.cpu_count() or 1)

    async def whole(self, file: TrackFile) -> bytes:
        """The whole file.

        Raises:
            ApiError: system_overloaded: too many files are being encoded.
            StorageError: the samples cannot be read.
        """
        found = self._files.get(file)
        if found is not None:
            self._files.move_to_end(file)
            return found
        if file not in self._running:
            if len(self._running) >= MAX_RUNNING:
                raise ApiError(ErrorCode.SYSTEM_OVERLOADED, retry_after_s=_RETRY_S)
            self._running[file] = task = asyncio.create_task(self._make(file))
            task.add_done_callback(_seen)
        # Whoever leaves does not take the file from those who stay.
        return await asyncio.shield(self._running[file])

    async def stream(self, file: TrackFile) -> AsyncIterator[bytes]:
        """The file piece by piece, kept nowhere; raises StorageError."""
        encoder = file.encoder()
        async for block in self._source.blocks(file.track, _BLOCK_S * file.track.sample_rate):
            async with self._places:
                data = await asyncio.to_thread(encoder.encode, block)
            if data:
                yield data
        async with self._places:
            yield await asyncio.to_thread(encoder.finish)

    async def part(self, file: TrackFile, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes ``[start, stop)`` of a sliceable file, from their samples alone; raises StorageError."""
        layout = file.sliceable
        assert layout is not None
        head = len(layout.header)
        if start < head:
            yield layout.header[start:stop]
        at, end = max(start - head, 0), min(stop - head, layout.data_bytes)
        if at < end:
            async for piece in self._samples(file, layout.frame_bytes, at, end):
                yield piece
        if stop > head + layout.data_bytes:
            yield layout.padding

    async def _samples(self, file: TrackFile, frame_bytes: int, at: int, end: int) -> AsyncIterator[bytes]:
        first, skip = divmod(at, frame_bytes)
        left = end - at
        # A player that seeks wants a little: no more is read than is asked for.
        block = min(_BLOCK_S * file.track.sample_rate, -(-(skip + left) // frame_bytes))
        async for samples in self._source.blocks(file.track, block, first):
            data = file.rendition.quantise(samples, file.factor).tobytes()[skip : skip + left]
            skip, left = 0, left - len(data)
            yield data
            if not left:
                return

    async def _make(self, file: TrackFile) -> bytes:
        try:
            data = b"".join([piece async for piece in self.stream(file)])
        finally:
            del self._running[file]
        self._files[file] = data
        self._bytes += len(data)
        while self._bytes > self._max_bytes:
            _, dropped = self._files.popitem(last=False)
            self._bytes -= len(dropped)
        return data


def _seen(task: asyncio.Task[bytes]) -> None:
    """Its waiters have what it raised; if all of them left, nobody is missing it."""
    if not task.cancelled():
        task.exception()
