"""Where the pieces of a generation's tracks are read back from: Valkey while they may be there, then storage."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Protocol, cast

from redis.exceptions import RedisError

from api.cache.client import Cache
from api.formats.base import FloatSamples, quantise16
from api.generations.view import TrackView
from api.streams import keys
from api.streams.pieces import Piece, TrackHeader

_FETCH_TIMEOUT_S = 2.0
_CACHE_ERRORS = (RedisError, OSError, TimeoutError)


class StoredTracks(Protocol):
    """Where finished tracks come from: ``AudioLibrary``."""

    async def read(self, row: TrackView, first_sample: int, num_samples: int) -> FloatSamples: ...


class Source:
    """Reads; remembers nothing."""

    def __init__(self, generation_id: str, cache: Cache, stored: StoredTracks) -> None:
        self._generation_id = generation_id
        self._cache = cache
        self._stored = stored

    async def length(self, position: int) -> int:
        """Pieces of a track that the cache has; 0 also if it cannot be asked."""
        try:
            async with asyncio.timeout(_FETCH_TIMEOUT_S):
                return int(await self._cache.redis.xlen(keys.track_key(self._cache, self._generation_id, position)))
        except _CACHE_ERRORS:
            return 0

    async def fetch(self, position: int, index: int, limit: int, *, new: bool = False) -> list[Piece]:
        """What the cache has from ``index`` on; it may have lost some, or everything, and may not be there.

        Args:
            new: these are asked for as soon as they can be there, not read once more.
        """
        key = keys.track_key(self._cache, self._generation_id, position)
        try:
            async with asyncio.timeout(_FETCH_TIMEOUT_S):
                found = await self._cache.redis.xrange(key, min=keys.entry_id(index), count=limit)
        except _CACHE_ERRORS:
            return []
        entries = cast(Sequence[keys.Entry], found or ())
        here_since = time.perf_counter() if new else 0.0
        return [keys.unpack(position, entry, here_since) for entry in entries]

    async def read_stored(self, track: TrackView, index: int, limit: int) -> list[Piece]:
        """The same pieces once more, from the finished track: the same samples by the same rounding."""
        header = stored_header(track)
        if header is None or index >= header.num_pieces:
            return []
        first = header.first_sample(index)
        until = min(header.first_sample(index + limit), header.total_samples)
        samples = quantise16(await self._stored.read(track, first, until - first))
        starts = [*range(0, until - first, header.piece_samples), until - first]
        return [
            Piece(track.position, index + number, header, samples[start:stop].tobytes())
            for number, (start, stop) in enumerate(itertools.pairwise(starts))
        ]


def contiguous(pieces: Sequence[Piece], index: int) -> list[Piece]:
    """Those from ``index`` on, up to the first gap: after a flush, a stream may begin anywhere."""
    expected = itertools.count(index)
    return list(itertools.takewhile(lambda piece: piece.index == next(expected), pieces))


def stored_header(track: TrackView) -> TrackHeader | None:
    """What a finished track is made of; None: it is not finished."""
    if track.sample_rate is None or track.channels is None or track.total_samples is None:
        return None
    return TrackHeader(track.sample_rate, track.channels, track.total_samples)
