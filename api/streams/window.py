"""The newest pieces of one track, shared by all of a process's listeners, who hold no more than an index."""

from __future__ import annotations

from collections import deque

from api.streams.pieces import Piece, TrackHeader

WINDOW_PIECES = 50  # 10 s
"""Bounds the memory per watched track: 0.64 MB of samples in mono at 32 kHz, and 0.9 MB more as events."""


class Window:
    """Pieces ``start`` to ``end`` (exclusive), in order and without a gap."""

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque(maxlen=WINDOW_PIECES)
        self.header: TrackHeader | None = None
        self.start = 0
        self.end = 0

    @property
    def is_complete(self) -> bool:
        """The track's last piece was seen."""
        return self.header is not None and self.end >= self.header.num_pieces

    def move(self, index: int) -> None:
        """Begin at this piece instead; what is held is dropped."""
        self._pieces.clear()
        self.start = self.end = index

    def extend(self, pieces: list[Piece]) -> int:
        """Take what follows without a gap, the oldest ones make room; returns how many were taken."""
        taken = 0
        for piece in pieces:
            if piece.index != self.end:
                break
            self.header = piece.header
            self._pieces.append(piece)
            self.end += 1
            taken += 1
        self.start = self.end - len(self._pieces)
        return taken

    def read(self, index: int, limit: int) -> list[Piece]:
        """Up to ``limit`` pieces from ``index`` on; none if they are not here."""
        if not self.start <= index < self.end:
            return []
        first = index - self.start
        return [self._pieces[place] for place in range(first, min(first + limit, len(self._pieces)))]
