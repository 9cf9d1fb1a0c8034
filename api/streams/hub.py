"""All that a gateway's listeners hear, from one place per process.

A thousand listeners of one generation cost one subscription, one reader of Valkey and one window of pieces. Each of
them holds an index and asks for what follows; one that is behind the window reads its own part back, from Valkey or
from the finished track. So no listener can make the hub hold anything, however slow it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from api.cache.bus import Bus
from api.cache.client import Cache
from api.generations.view import GenerationView
from api.streams.pieces import Piece
from api.streams.sources import StoredTracks
from api.streams.watch import Snapshots, Watch
from api.tasks import stop


class Feed:
    """Watches each generation that has listeners in this process, once.

    Args:
        generations: tells states.
        audio: reads finished tracks.
    """

    def __init__(self, cache: Cache, bus: Bus, generations: Snapshots, audio: StoredTracks) -> None:
        self._cache, self._bus = cache, bus
        self._generations, self._audio = generations, audio
        self._watches: dict[str, tuple[Watch, asyncio.Task[None]]] = {}

    @property
    def listeners(self) -> int:
        """How many there are, over all generations."""
        return sum(watch.listeners for watch, _ in self._watches.values())

    @property
    def watched(self) -> int:
        """How many generations have listeners."""
        return len(self._watches)

    @asynccontextmanager
    async def watch(self, view: GenerationView) -> AsyncIterator[Watch]:
        """Listen to a generation, from the state that the caller has just read and may see."""
        watch = self._join(view)
        try:
            yield watch
        finally:
            await self._leave(watch)

    async def pieces(self, view: GenerationView, position: int, first_index: int = 0) -> AsyncGenerator[Piece]:
        """As ``batches``, one by one."""
        async with aclosing(self.batches(view, position, first_index)) as batches:
            async for batch in batches:
                for piece in batch:
                    yield piece

    async def batches(self, view: GenerationView, position: int, first_index: int = 0) -> AsyncGenerator[list[Piece]]:
        """A track from piece ``first_index`` to its end: what is there at once, the rest as it is made. What came
        together is handed out together: each message on its way to a client costs more than its samples do.

        Raises:
            TrackEndedError: the generation failed, was cancelled or expired.
            GenerationGoneError: it was removed meanwhile.
            StorageError: the track is finished, but cannot be read.
        """
        async with self.watch(view) as watch:
            index = first_index
            while not watch.is_at_end(position, index):
                turn = watch.turn
                found = await watch.read(position, index)
                if found:
                    yield found
                index += len(found)
                if not found and not watch.is_at_end(position, index):
                    watch.check_alive(position)
                    await turn.wait()

    async def close(self) -> None:
        """Stop watching. Listeners that are still there hear nothing more."""
        watches, self._watches = self._watches, {}
        await stop(*(task for _, task in watches.values()))

    def _join(self, view: GenerationView) -> Watch:
        if view.id not in self._watches:
            watch = Watch(view, self._cache, self._bus, self._generations, self._audio)
            following = asyncio.create_task(watch.run(), name=f"watch {view.id}")
            following.add_done_callback(watch.ended)
            self._watches[view.id] = watch, following
        watch, _ = self._watches[view.id]
        watch.note(view)
        watch.listeners += 1
        return watch

    async def _leave(self, watch: Watch) -> None:
        watch.listeners -= 1
        if watch.listeners == 0 and self._watches.get(watch.view.id, (None,))[0] is watch:
            _, task = self._watches.pop(watch.view.id)
            await stop(task)
