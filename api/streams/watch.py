"""One generation as a process watches it, once for all its listeners there."""

from __future__ import annotations

import asyncio
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from api.cache.bus import Bus
from api.cache.client import Cache
from api.generations.view import GenerationView, State, TrackView
from api.store.errors import StoreError
from api.streams import keys
from api.streams.errors import GenerationGoneError, TrackEndedError
from api.streams.pieces import Piece, TrackHeader
from api.streams.signal import Signal
from api.streams.sources import Source, StoredTracks, contiguous, stored_header
from api.streams.window import WINDOW_PIECES, Window

POLL_S = 1.0  # the net under lost doorbells
STATE_POLL_S = 3.0  # the same for states while the bus is connected: asking SQL costs more than asking the cache
BATCH_PIECES = 5  # 1 s: the most that a listener that is behind holds on its own; as much as engines hand out at once
_DATABASE_ERRORS = (StoreError, SQLAlchemyError, OSError, TimeoutError)


class Snapshots(Protocol):
    """Where states come from: ``GenerationService``."""

    async def snapshot(self, generation_id: str) -> GenerationView | None:
        """The generation as it is now; None: there is none any more."""
        ...


class Watch:
    """Follows state and pieces for as long as ``run`` runs. Listeners read; nothing is pushed, so none can be too slow.

    Attributes:
        view: the newest state that is known.
        listeners: how many there are.
    """

    def __init__(
        self, view: GenerationView, cache: Cache, bus: Bus, snapshots: Snapshots, stored: StoredTracks
    ) -> None:
        self.view = view
        self.listeners = 0
        self._bus, self._snapshots = bus, snapshots
        self._source = Source(view.id, cache, stored)
        self._windows: dict[int, Window] = {}
        self._locks: dict[int, asyncio.Lock] = {}
        self._changed = Signal()
        self._gone = False
        self._broken: BaseException | None = None
        self._someone_is_behind = False
        self._state_seen_at = asyncio.get_running_loop().time()

    # ---------------------------------------------------------------------------------------- listeners
    @property
    def turn(self) -> asyncio.Event:
        """Set when anything changes after this moment. Take it before you look."""
        return self._changed.turn

    def header(self, position: int) -> TrackHeader | None:
        """What the track is made of, once it is known."""
        window = self._windows.get(position)
        if window is not None and window.header is not None:
            return window.header
        track = self._track(position)
        return None if track is None else stored_header(track)

    def is_at_end(self, position: int, index: int) -> bool:
        """No piece follows those before ``index``; of a track that was deleted, none at all."""
        if self._track(position) is None:
            return True
        header = self.header(position)
        return header is not None and index >= header.num_pieces

    def check_alive(self, position: int) -> None:
        """
        Raises:
            TrackEndedError: the track will not go on.
            GenerationGoneError: the generation was removed.
        """
        self.check_exists()
        if self.view.is_terminal and self.view.state != State.SUCCEEDED:
            raise TrackEndedError(self.view, position)

    def check_exists(self) -> None:
        """
        Raises:
            GenerationGoneError: the generation was removed.
            Exception: nobody follows it any more, because of this bug.
        """
        if self._broken is not None:
            raise self._broken
        if self._gone:
            raise GenerationGoneError(self.view.id)

    def note(self, view: GenerationView) -> None:
        """Somebody has seen this state; a newer one than is known here is taken over."""
        if view.version > self.view.version:
            self.view = view
            self._changed.ring()

    async def read(self, position: int, index: int, limit: int = BATCH_PIECES) -> list[Piece]:
        """The next pieces, up to ``limit``, from wherever they are; none: wait for the next turn.

        Raises:
            StorageError: the track is finished, but cannot be read.
        """
        window = self._windows.get(position) or await self._open(position)
        found = window.read(index, limit)
        if found or (index == window.end and not self.view.is_terminal):
            return found
        found = contiguous(await self._source.fetch(position, index, limit), index)
        track = self._track(position)
        if not found and track is not None and track.state == State.SUCCEEDED:
            found = await self._source.read_stored(track, index, limit)
        # What the cache has lost comes back without a doorbell for those who are behind.
        self._someone_is_behind |= not found
        return found

    def _track(self, position: int) -> TrackView | None:
        """None: it was deleted."""
        return next((track for track in self.view.tracks if track.position == position), None)

    # ------------------------------------------------------------------------------------------ following
    async def run(self) -> None:
        """Until the generation has ended, when everything lies in the cache or in the store, or nobody listens."""
        loop = asyncio.get_running_loop()
        async with self._bus.subscribe(keys.channel(self.view.id)) as subscription:
            next_poll = loop.time() + POLL_S
            while self.listeners and not (self._gone or self.view.is_terminal):
                message = await subscription.get(max(0.0, next_poll - loop.time()))
                is_due = loop.time() >= next_poll
                if message is None and not is_due:
                    await self._look_at_everything()  # messages were missed
                elif message is not None:
                    await self._answer(keys.understand(message[1]))
                if is_due:
                    await self._poll()
                    next_poll = loop.time() + POLL_S

    def ended(self, following: asyncio.Task[None]) -> None:
        """``run`` has ended; if it broke, listeners must not wait for what nobody will tell them."""
        if not following.cancelled():
            self._broken = following.exception()
            self._changed.ring()

    async def _answer(self, ring: keys.Ring | None) -> None:
        if ring is None:
            await self._look_at_everything()
        elif ring.kind == b"state" and ring.value > self.view.version:
            await self._look_at_state()
        elif ring.kind == b"pieces" and ring.position in self._windows:
            await self._advance(ring.position)

    async def _poll(self) -> None:
        since_s = asyncio.get_running_loop().time() - self._state_seen_at
        if since_s < STATE_POLL_S and self._bus.connected:
            await self._advance_all()
        else:
            await self._look_at_everything()
        if self._someone_is_behind:
            self._someone_is_behind = False
            self._changed.ring()

    async def _look_at_everything(self) -> None:
        await self._advance_all()
        await self._look_at_state()

    async def _look_at_state(self) -> None:
        try:
            view = await self._snapshots.snapshot(self.view.id)
        except _DATABASE_ERRORS:
            return  # the next poll asks again
        self._state_seen_at = asyncio.get_running_loop().time()
        if view is None:
            self._gone = True
            self._changed.ring()
            return
        if view.is_terminal:
            # The last pieces first, so that not every listener has to fetch them by itself.
            await self._advance_all()
        self.note(view)

    async def _advance_all(self) -> None:
        for position in list(self._windows):
            await self._advance(position)

    async def _open(self, position: int) -> Window:
        """The window of a track from now on, at the place where the track is being made."""
        async with self._locks.setdefault(position, asyncio.Lock()):
            window = self._windows.get(position)
            if window is None:
                window = Window()
                window.move(max(0, await self._source.length(position) - WINDOW_PIECES))
                # Before it is filled: a doorbell that rings meanwhile must find it.
                self._windows[position] = window
                await self._fill(position, window)
        return window

    async def _advance(self, position: int) -> None:
        """Take what is new in the cache."""
        async with self._locks[position]:
            await self._fill(position, self._windows[position])

    async def _fill(self, position: int, window: Window) -> None:
        while not window.is_complete:
            taken = window.extend(await self._source.fetch(position, window.end, WINDOW_PIECES, new=True))
            if taken:
                self._changed.ring()
            if taken < WINDOW_PIECES:
                return
