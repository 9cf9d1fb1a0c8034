"""Codes of the windows that are finished of a long track: what another attempt goes on from.

They lie in Valkey beside the track's pieces, and may be lost as these may: then the track is made from its beginning,
which gives the same. So nothing here fails, and nothing waits for long.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import numpy as np
from redis.exceptions import RedisError

from api.cache.client import Cache
from api.streams import keys
from models.types import CodePrompt

PATIENCE_S = 0.5
_AWAY = (RedisError, OSError, TimeoutError)


class FinishedCodes:
    """Of all tracks. Attempts may overwrite each other: as far as they got, all of them say the same."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def keep(self, generation_id: str, position: int, codes: CodePrompt) -> None:
        """All of a track's codes so far: 400 bytes a second of music, twice that in stereo."""
        key = keys.codes_key(self._cache, generation_id, position)
        with suppress(*_AWAY):
            async with asyncio.timeout(PATIENCE_S):
                await self._cache.redis.set(key, _packed(codes), ex=keys.LIVE_TTL_S)

    async def of(self, generation_id: str, position: int) -> CodePrompt | None:
        """As far as an attempt before is known to have come; None: nothing is known."""
        content: Any = None
        with suppress(*_AWAY):
            async with asyncio.timeout(PATIENCE_S):
                content = await self._cache.redis.get(keys.codes_key(self._cache, generation_id, position))
        return None if content is None else _unpacked(content)


def _packed(codes: CodePrompt) -> bytes:
    """A byte for the codebooks, then uint16 [K, frames]: no codebook has more codes than that."""
    return bytes([codes.num_codebooks]) + np.frombuffer(codes.codes, "<i8").astype("<u2").tobytes()


def _unpacked(content: bytes) -> CodePrompt:
    return CodePrompt(np.frombuffer(content, "<u2", offset=1).astype("<i8").tobytes(), content[0])
