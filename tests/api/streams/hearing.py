"""Listening to a feed in this process, without HTTP."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from api.generations.view import GenerationView
from api.streams import keys
from api.streams.hub import Feed
from api.streams.pieces import Piece
from tests.api.fakes import FakeGenerator
from tests.api.streams.stage import PATIENCE_S, Stage, eventually

LONG_S = 15.0  # more than a window


async def listen(feed: Feed, view: GenerationView, position: int = 0, first: int = 0) -> list[Piece]:
    async with asyncio.timeout(PATIENCE_S), aclosing(feed.pieces(view, position, first)) as pieces:
        return [piece async for piece in pieces]


async def has(stage: Stage, view: GenerationView, count: int, position: int = 0) -> None:
    """Until the feed has so many pieces."""

    async def enough() -> bool:
        return await stage.services.cache.redis.xlen(keys.track_key(stage.services.cache, view.id, position)) >= count

    await eventually(enough)


async def generator_reached(generator: FakeGenerator, index: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await generator.reached[index].wait()
