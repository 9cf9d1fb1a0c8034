"""What goes wrong in tests of workers, at the point where a test wants it, and what must be true afterwards."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from api.generations.view import State
from api.generations.worker import Worker
from api.storage.audio import AudioLibrary, StoredAudio
from api.store.database import Database
from api.store.errors import StoreError
from api.streams.writer import FeedWriter
from tests.api.fakes import sine
from tests.api.generations.conftest import QUICK, Bench

SEED = 9
SHORT = replace(QUICK, lease_s=1.2, heartbeat_s=0.1)  # long enough that a busy machine loses none by itself


class Held:
    """A point where a worker stops until it is killed."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def here(self) -> None:
        self.reached.set()
        await asyncio.Event().wait()


class HeldLibrary(AudioLibrary):
    """Storage that never comes back, before or after it has stored."""

    held: Held
    after: bool

    async def store(self, *args: Any, **values: Any) -> StoredAudio:
        if not self.after:
            await self.held.here()
        stored = await super().store(*args, **values)
        await self.held.here()
        return stored


class HeldFeed(FeedWriter):
    """Hangs when the end of a generation is told, which is after the last commit."""

    held: Held

    async def finish(self, generation_id: str, num_tracks: int = 1) -> None:
        await self.held.here()


class UnreliableDatabase:
    """A database that can be taken away.

    Attributes:
        away: it cannot be reached.
        refused: how often it was tried.
        lost_answers: of so many transactions nobody is told that they were committed.
        committed: transactions.
        held: where a transaction hangs before it is committed.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self.away = False
        self.refused = 0
        self.lost_answers = 0
        self.committed = 0
        self.held: Held | None = None

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        self._check()
        async with self._db.begin() as conn:
            yield conn
            if self.held is not None:
                await self.held.here()
        self.committed += 1
        if self.lost_answers:
            self.lost_answers -= 1
            raise StoreError("the connection broke before the answer came")

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        self._check()
        async with self._db.read() as conn:
            yield conn

    def _check(self) -> None:
        if self.away:
            self.refused += 1
            raise StoreError("the database was taken away")


@asynccontextmanager
async def doomed(worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
    """A worker that dies at the end of the block without a word."""
    running = asyncio.create_task(worker.run())
    yield running
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def check_made_once(bench: Bench, generation_id: str, attempts: tuple[int, ...]) -> None:
    view = await bench.until(generation_id)
    assert view.state == State.SUCCEEDED
    assert view.attempt in attempts
    assert [track.sha256 for track in view.tracks] == [
        hashlib.sha256(sine(SEED + i, 32_000).tobytes()).hexdigest() for i in range(2)
    ]
    for track in view.tracks:
        assert len(await bench.audio.read(track, 0, 32_000)) == 32_000
    assert await bench.events(generation_id) == ["generation.succeeded"]
