"""What a listener is told of a generation, in order, each thing once, across any number of connections.

The first event of every connection is a full ``snapshot``; it repeats what is known and has no id. Every later one has
an id, ``{version}.{p0}.{p1}…``: the version of the generation's state that was told, and how many pieces of each track
were. A listener that comes back with the last id it has seen is told exactly what follows. Of each number in an id, the
next id has the same or a larger one, and at least one is larger.

``done`` is the last event. Its version is the final state's; audio that comes after the end has the version before.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Self

from api.errors import ApiError, ErrorCode
from api.generations.view import GenerationView
from api.streams.pieces import Piece
from api.streams.sources import stored_header
from api.streams.watch import Watch

PING_S = 15.0
_POINT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})+")

Render = Callable[[GenerationView], str]
"""The generation as ``GET /generate/{id}`` gives it, as JSON on one line."""


@dataclass(frozen=True, slots=True)
class Event:
    """
    Attributes:
        name: snapshot, state, audio, done or error.
        data: JSON on one line.
        id: to come back with; None: nothing new is known after it.
    """

    name: str
    data: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """How far a listener got.

    Attributes:
        version: of the state it was told last; 0: of none.
        pieces: how many of each track it was sent.
    """

    version: int
    pieces: tuple[int, ...]

    @classmethod
    def parse(cls, text: str | None, num_tracks: int) -> Self:
        """From the last id that was seen; from the beginning if there is none.

        Raises:
            ApiError: invalid_parameter: it is no id of this generation's events.
        """
        if not text:
            return cls(0, (0,) * num_tracks)
        numbers = text.split(".")
        if not _POINT.fullmatch(text) or len(numbers) != num_tracks + 1:
            raise ApiError(
                ErrorCode.INVALID_PARAMETER,
                "Last-Event-ID is no id of this generation's events: send the last one as it came, or leave it out",
                param="last_event_id",
            )
        version, *pieces = map(int, numbers)
        return cls(version, tuple(pieces))

    def is_final(self, view: GenerationView, *, audio: bool) -> bool:
        """The listener was told everything, ``done`` included."""
        if not view.is_terminal or self.version < view.version:
            return False
        headers = {track.position: stored_header(track) for track in view.tracks if audio}
        return all(header is None or self.pieces[at] >= header.num_pieces for at, header in headers.items())


class Narrator:
    """Tells one listener. Holds how far it got, and nothing else.

    Args:
        audio: pieces of audio, too.
        ping_s: how long it may be quiet; then None is told, for the transport to give a sign of life.
    """

    def __init__(
        self, watch: Watch, resume: ResumePoint, render: Render, *, audio: bool, ping_s: float = PING_S
    ) -> None:
        self._watch = watch
        self._render = render
        self._audio = audio
        self._ping_s = ping_s
        self._version = resume.version
        self._counts = list(resume.pieces)

    async def events(self) -> AsyncGenerator[Event | None]:
        """Ends after ``done``.

        Raises:
            GenerationGoneError: the generation was removed.
            StorageError: finished audio cannot be read.
        """
        view = self._watch.view
        # A version that was never there is no reason to tell less.
        self._version = max(min(self._version, view.version), view.version - 1 if view.is_terminal else view.version)
        yield Event("snapshot", self._render(view))
        while True:
            turn, view = self._watch.turn, self._watch.view
            quiet = True
            if view.version > self._version and not view.is_terminal:
                self._version, quiet = view.version, False
                yield Event("state", self._render(view), self._id())
            for position in range(view.num_tracks if self._audio else 0):
                for piece in await self._next_pieces(position):
                    self._counts[position] += 1
                    quiet = False
                    yield Event("audio", piece.as_json, self._id())
            if quiet and view.is_terminal:
                break
            if quiet and not await self._until(turn):
                yield None
        self._version = view.version
        yield Event("done", self._render(view), self._id())

    async def _next_pieces(self, position: int) -> list[Piece]:
        count = self._counts[position]
        return [] if self._watch.is_at_end(position, count) else await self._watch.read(position, count)

    async def _until(self, turn: asyncio.Event) -> bool:
        """False: nothing changed in time."""
        self._watch.check_exists()
        try:
            async with asyncio.timeout(self._ping_s):
                await turn.wait()
        except TimeoutError:
            return False
        return True

    def _id(self) -> str:
        return ".".join(map(str, [self._version, *self._counts]))
