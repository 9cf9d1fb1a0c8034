"""Pieces of a track on their way into Valkey, where every gateway's listeners find them.

Nothing here may hold up or fail a generation. Pieces are kept in memory until the track is done; a task of its own
brings the stream in Valkey up to them, again and again: after Valkey was away, after it was flushed or restarted empty,
after an earlier attempt of the same generation left half of them there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from api.cache.bus import Bus
from api.cache.client import Cache
from api.streams import keys
from api.streams.finished import FinishedCodes
from api.streams.pieces import Piece, Slicer
from api.tasks import stop
from models.errors import ReplicaLostError
from models.types import AudioChunk

CHECK_EVERY_S = 1.0  # how soon a flush is noticed while no piece is made
RETRY_AFTER_S = 0.25
DRAIN_TIMEOUT_S = 2.0
_MAX_PIECES_AT_ONCE = 64

# Appends pieces first, first + 1, … unless they are there. Answers how many the stream has then: fewer than expected
# means that it lost some, and nothing was appended behind the gap.
_APPEND = """
local have = redis.call('XLEN', KEYS[1])
local first = tonumber(ARGV[1])
if have >= first then
  local before = have
  for i = 6, #ARGV do
    local index = first + i - 6
    if index == have then
      redis.call('XADD', KEYS[1], (index + 1) .. '-0', 'h', ARGV[5], 'p', ARGV[i])
      have = have + 1
    end
  end
  if have > before then redis.call('PUBLISH', ARGV[3], ARGV[4] .. have) end
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return have
"""


class FeedWriter:
    """Makes the writers of a process's tracks and rings for changes of state.

    Attributes:
        finished: codes of tracks that are being made.
    """

    def __init__(self, cache: Cache, bus: Bus) -> None:
        self._cache = cache
        self._bus = bus
        self.finished = FinishedCodes(cache)
        self._append: AsyncScript = cache.redis.register_script(_APPEND)

    @asynccontextmanager
    async def track(self, generation_id: str, position: int) -> AsyncIterator[TrackWriter]:
        """A writer for one track. On the way out what is not in Valkey yet gets two more seconds.

        Keep it open until the generation has ended, if listeners of this track are to survive a flush until then.

        Raises:
            ReplicaLostError: the block ended well, but the track did not come to its end marker.
        """
        writer = TrackWriter(self._cache, self._bus, self._append, generation_id, position)
        keeping = asyncio.create_task(writer.keep(), name=f"feed {generation_id} {position}")
        try:
            yield writer
            if not writer.complete:
                raise ReplicaLostError("the audio ended before its end marker")
            await writer.drain()
        finally:
            writer.close()
            await stop(keeping)

    async def state_changed(self, generation_id: str, version: int) -> None:
        """Tell listeners that the generation's row has this version now. Call it after the commit."""
        await self._bus.publish(keys.channel(generation_id), keys.ring_state(version))

    async def finish(self, generation_id: str) -> None:
        """Let the feed go ten minutes from now; without this call it goes an hour after its writers stopped."""
        try:
            async with self._cache.redis.pipeline(transaction=False) as pipe:
                for position in range(keys.MAX_TRACKS):
                    pipe.expire(keys.track_key(self._cache, generation_id, position), keys.FINISHED_TTL_S)
                    pipe.delete(keys.codes_key(self._cache, generation_id, position))
                await pipe.execute()
        except (RedisError, OSError):
            return


class TrackWriter:
    """One track of one attempt.

    Attributes:
        pieces: all of them so far.
    """

    def __init__(
        self,
        cache: Cache,
        bus: Bus,
        append: AsyncScript,
        generation_id: str,
        position: int,
    ) -> None:
        self._append = append
        self._key = keys.track_key(cache, generation_id, position)
        self._channel = bus.wire_name(keys.channel(generation_id))
        self._ring = keys.ring_pieces(position)
        self._slicer = Slicer(position)
        self._stored = 0  # how many Valkey has, as far as known
        self._closed = False
        self._made = asyncio.Event()
        self._drained = asyncio.Event()
        self.pieces: list[Piece] = []

    @property
    def complete(self) -> bool:
        """The end marker came."""
        return self._slicer.complete

    def write(self, chunk: AudioChunk) -> list[Piece]:
        """Take the next chunk; returns the pieces that it completes. Never waits for Valkey.

        Raises:
            ReplicaLostError: samples are missing before it, or the track ended too early.
            GenerationFailedError: samples are no numbers, or more came than were announced.
        """
        made = self._slicer.push(chunk)
        self.pieces += made
        if self._stored < len(self.pieces):
            self._drained.clear()
            self._made.set()
        return made

    async def drain(self, timeout_s: float = DRAIN_TIMEOUT_S) -> bool:
        """Wait until Valkey has every piece. False: it did not within ``timeout_s`` seconds."""
        if self._stored == len(self.pieces):
            return True
        try:
            async with asyncio.timeout(timeout_s):
                await self._drained.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Leave the stream as it is."""
        self._closed = True
        self._made.set()

    async def keep(self) -> None:
        """Bring the stream up to the pieces made here, until ``close``."""
        while not self._closed:
            pause_s = CHECK_EVERY_S
            try:
                await self._catch_up()
            except (RedisError, OSError):
                pause_s = RETRY_AFTER_S
            await self._until_made(pause_s)

    async def _catch_up(self) -> None:
        while self.pieces and not self._closed:
            self._made.clear()
            # One look at least, even when nothing seems to be missing.
            first = min(self._stored, len(self.pieces))
            await self._send(first, self.pieces[first : first + _MAX_PIECES_AT_ONCE])
            if self._stored >= len(self.pieces):
                self._drained.set()
                return

    async def _send(self, first: int, batch: list[Piece]) -> None:
        header = keys.pack_header(self.pieces[0].header)
        args: list[bytes | str | int] = [first, keys.LIVE_TTL_S, self._channel, self._ring, header]
        args += [piece.pcm for piece in batch]
        # More than was made here: an earlier attempt got further. This one makes the same pieces again.
        self._stored = min(int(cast(int, await self._append(keys=[self._key], args=args))), len(self.pieces))

    async def _until_made(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._made.wait()
        except TimeoutError:
            return
