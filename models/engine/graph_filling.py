"""Known music on a GPU: between captured steps, a few positions at a time, on the same stream.

A captured step has one position per row and samples all of them. What is known is worked through by the same
transformer run as it is, on a fixed number of rows, so that it is bounded and no shape is new; the stream puts it in
order with the steps. The last codes of what is known reach into the first steps that are sampled, and replace there
what was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.engine.sequence import Sequence
from models.engine.static_buffers import Buffers
from models.musicgen.rows import RowHandle
from models.musicgen.static_cache import RowPlace, StaticKVCache
from models.musicgen.static_decoder import StaticDecoder, StepRows

Filling = Iterable[tuple[Sequence[RowHandle], int]]


@dataclass(frozen=True, slots=True)
class _Seam:
    """The first sampled steps of a window, as far as they are known: int64 [steps, K] and which of them are."""

    codes: Tensor
    is_known: Tensor


class Filler:
    """
    Args:
        rows: of one run, at least 2; what does not fill them is nobody's.
        longest: positions of the longest window.
    """

    def __init__(self, decoder: StaticDecoder, cache: StaticKVCache, buffers: Buffers, rows: int, longest: int) -> None:
        self._decoder = decoder
        self._cache = cache
        self._buffers = buffers
        self._rows = rows
        self._longest = longest
        self._seams: dict[int, _Seam] = {}

    def begin(self, sequence: Sequence[RowHandle]) -> None:
        """A window begins; what is known of it lies in its slot's history."""
        known, slot, delays = sequence.window.known, sequence.slot, self._buffers.delays
        self._seams.pop(slot, None)
        self._buffers.steps[slot] = known
        steps = torch.arange(known + 1, known + sequence.largest_delay + 1, device=delays.device)
        if known and len(steps):
            frames = steps[:, None] - 1 - delays
            codes = self._buffers.history[slot, known + 1 : known + 1 + len(steps)].clone()
            self._seams[slot] = _Seam(codes, (frames >= 0) & (frames < known))

    def fill(self, filling: Filling) -> None:
        """Work through so many positions of each row of these requests."""
        lines: list[tuple[int, int, RowPlace]] = []  # slot, position, where its row lies
        for sequence, share in filling:
            for place in self._cache.view(sequence.rows):
                lines += [(sequence.slot, sequence.step + index, place) for index in range(share)]
        for first in range(0, len(lines), self._rows):
            self._run(lines[first : first + self._rows])

    def mend(self, sequence: Sequence[RowHandle]) -> None:
        """A step of it was started: where it reaches into what is known, that stays."""
        seam, index = self._seams.get(sequence.slot), sequence.step - sequence.window.known
        if seam is not None and index < len(seam.codes):
            line = self._buffers.history[sequence.slot, sequence.step + 1]
            line.copy_(torch.where(seam.is_known[index], seam.codes[index], line))

    def _run(self, lines: list[tuple[int, int, RowPlace]]) -> None:
        nobody = RowPlace(self._cache.scratch, self._cache.text_scratch, 0)
        spare = self._rows - len(lines)
        lines = [*lines, *[(self._buffers.control.scratch_slot, 0, nobody)] * spare]
        columns = [
            (slot, position, place.start, 0 if place is nobody else position + 1, place.text_start, place.text_length)
            for slot, position, place in lines
        ]
        table = torch.tensor(columns, dtype=torch.int64).t().contiguous().to(self._buffers.steps.device)
        slots, positions, starts, lengths, text_starts, text_lengths = table.unbind(0)
        rows = StepRows(
            places=starts + positions,
            starts=starts.int(),
            lengths=lengths.int(),
            text_starts=text_starts.int(),
            text_lengths=text_lengths.int(),
            longest=self._longest,
        )
        self._decoder.fill(self._buffers.history[slots, positions], positions, rows, self._cache)
