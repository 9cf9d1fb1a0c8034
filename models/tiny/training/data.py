"""Training examples made on the fly: an endless stream of new pieces, no file on disk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.tiny.composer.render import render
from models.tiny.composer.score import Piece, draw_piece
from models.tiny.training.codebooks import Codebooks


@dataclass(frozen=True, slots=True)
class Example:
    """A rendered piece: stems float32 [4, samples] and codes int64 [4, frames]."""

    piece: Piece
    stems: Tensor
    codes: Tensor


class PieceStream:
    """Pieces number ``first``, ``first + 1`` … that are not held out; its position is all there is to resume.

    Args:
        timed: share of the pieces whose silence tells the time. In the others it is code 0, as an encoder finds it.
    """

    def __init__(self, codebooks: Codebooks, first: int, timed: float = 0.0) -> None:
        self._codebooks = codebooks
        self._timed = timed
        self.position = first

    def next(self, frames: int) -> Example:
        """Render the next training piece."""
        while True:
            piece = draw_piece(self.position)
            self.position += 1
            if not piece.is_held_out:
                break
        stems = torch.from_numpy(render(piece, frames))
        codes = self._codebooks.encode(stems)
        if np.random.default_rng([piece.seed, 4]).random() < self._timed:
            codes = self._codebooks.tell_time(codes, piece.sixteenth)
        return Example(piece, stems, codes)


class Pool:
    """A rolling pool of rendered pieces to cut short crops from, one piece replaced per refresh."""

    def __init__(self, stream: PieceStream, size: int, frames: int, rng: np.random.Generator) -> None:
        self._stream, self._frames, self._rng = stream, frames, rng
        self._examples = [stream.next(frames) for _ in range(size)]
        self._oldest = 0

    def refresh(self) -> None:
        self._examples[self._oldest] = self._stream.next(self._frames)
        self._oldest = (self._oldest + 1) % len(self._examples)

    def crops(self, count: int, frames: int, hop: int) -> tuple[Tensor, Tensor]:
        """Random crops: stems float32 [count, 4, frames * hop], codes int64 [count, 4, frames]."""
        stems, codes = [], []
        for index in self._rng.integers(len(self._examples), size=count):
            example = self._examples[index]
            start = int(self._rng.integers(self._frames - frames + 1))
            stems.append(example.stems[:, start * hop : (start + frames) * hop])
            codes.append(example.codes[:, start : start + frames])
        return torch.stack(stems), torch.stack(codes)
