"""Training examples of the stereo and melody model: codes of two channels, and the chroma of a tune to follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.conditioning import chroma
from models.tiny.composer.instruments import FAMILIES, SAMPLE_RATE, Wave
from models.tiny.composer.render import render
from models.tiny.composer.score import STEMS, Piece, write
from models.tiny.composer.stereo import SIDES, tune
from models.tiny.training.codebooks import Codebooks
from models.tiny.training.data import Example, PieceStream
from models.tiny.training.fewer_codes import FewerCodes

FULL_CLIP = 1500  # frames of 30 s
TUNE_ALONE = 0.65  # share of the pieces with a lead whose melody is that lead alone; the others' is the whole piece


@dataclass(frozen=True, slots=True)
class StereoExample:
    """A piece: codes int64 [8, frames], interleaved left and right; melody int64 [235], pitch classes; begins bool
    [frames], where the lead's notes begin."""

    piece: Piece
    codes: Tensor
    melody: Tensor
    begins: Tensor


def null_melody() -> Tensor:
    """What stands for no melody: the first pitch class throughout, int64 [235]."""
    return torch.zeros(chroma.FRAMES, dtype=torch.long)


def note_beginnings(piece: Piece, frames: int) -> Tensor:
    """Where the lead's notes begin, bool [frames]."""
    begins = torch.zeros(frames, dtype=torch.bool)
    starts = [event.start for event in write(piece, frames) if event.stem == "lead"]
    begins[[start for start in starts if start < frames]] = True  # the last bar is written whole
    return begins


def melody_of(piece: Piece, frames: int, rng: np.random.Generator) -> Wave:
    """Audio of the tune that a piece follows: its lead alone on some instrument, or all of it: float32 [samples]."""
    if piece.lead and rng.random() < TUNE_ALONE:
        return tune(piece, frames, FAMILIES[rng.integers(len(FAMILIES))])
    whole: Wave = render(piece, frames).sum(0)
    return whole


class StereoStream:
    """Training pieces in stereo; ``position`` is all there is to resume.

    Args:
        timed: share of the pieces whose silence tells the time, as in `PieceStream`.
    """

    def __init__(self, codebooks: Codebooks, fewer: FewerCodes, first: int, timed: float) -> None:
        self._codebooks, self._fewer, self._timed = codebooks, fewer, timed
        self._pieces = PieceStream(codebooks, first)

    @property
    def position(self) -> int:
        return self._pieces.position

    @position.setter
    def position(self, number: int) -> None:
        self._pieces.position = number

    def next(self, frames: int, *, melody: bool) -> StereoExample:
        """The next training piece; without ``melody`` none is computed, and its place is the null melody."""
        example = self._pieces.next(frames)
        rng = np.random.default_rng([example.piece.seed, 5])
        codes = self.place(example, timed=bool(rng.random() < self._timed))
        begins = note_beginnings(example.piece, frames)
        if not melody:
            return StereoExample(example.piece, codes, null_melody(), begins)
        # Longer than the clip or as long: a shorter one would be repeated, and this music does not go round with it.
        length = frames if rng.random() < 0.5 else FULL_CLIP
        sung = torch.from_numpy(melody_of(example.piece, length, rng))
        return StereoExample(example.piece, codes, chroma.tune(sung, SAMPLE_RATE), begins)

    def place(self, example: Example, *, timed: bool) -> Tensor:
        """Stems' codes on both channels, silence where a stem is not heard: int64 [8, frames]."""
        channels = []
        for side in range(2):
            heard = torch.tensor([SIDES[stem][side] for stem in STEMS])
            codes = example.codes * heard[:, None]
            if timed:
                codes = self._codebooks.tell_time(codes, example.piece.sixteenth)
            channels.append(self._fewer.translate(codes))
        return torch.stack(channels, dim=1).flatten(0, 1)
