"""Codes of finished windows in a real Valkey: as they were, or not at all, and never in the way."""

from __future__ import annotations

import numpy as np

from api.cache.client import Cache
from api.streams import keys
from api.streams.finished import FinishedCodes
from models.types import CodePrompt


def codes(frames: int, num_codebooks: int = 4) -> CodePrompt:
    drawn = np.random.default_rng(frames).integers(0, 2048, (num_codebooks, frames))
    return CodePrompt(drawn.astype("<i8").tobytes(), num_codebooks)


async def test_they_come_back_as_they_were(cache: Cache) -> None:
    finished = FinishedCodes(cache)
    assert await finished.of("gen", 0) is None
    await finished.keep("gen", 0, codes(1500))
    await finished.keep("gen", 1, codes(900, 8))
    await finished.keep("gen", 0, codes(2400))
    assert await finished.of("gen", 0) == codes(2400)
    assert await finished.of("gen", 1) == codes(900, 8)
    assert await finished.of("other", 0) is None
    key = keys.codes_key(cache, "gen", 0)
    assert await cache.redis.strlen(key) == 1 + 2 * 4 * 2400
    assert 0 < await cache.redis.ttl(key) <= keys.LIVE_TTL_S


async def test_without_valkey_nothing_is_kept_and_nothing_fails() -> None:
    nowhere = Cache.connect("redis://127.0.0.1:1", prefix="x:")
    finished = FinishedCodes(nowhere)
    await finished.keep("gen", 0, codes(3))
    assert await finished.of("gen", 0) is None
    await nowhere.close()
