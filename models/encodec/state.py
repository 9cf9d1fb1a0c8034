"""What a stream remembers between two pushes: one small typed state per stateful module, nothing else.

States are immutable: a step takes one and returns the next. So a step that fails leaves its stream as it was,
two streams on one decoder share nothing, and a fresh state is simply ``DecoderState.fresh(...)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class WindowState:
    """The input rows of a convolution that later outputs still need.

    Attributes:
        tail: [B, rows, C], or None before the first row.
        started: the true left edge of the clip has been padded and outputs have begun.
    """

    tail: Tensor | None = None
    started: bool = False

    def shape_key(self) -> tuple[int, bool]:
        return (-1 if self.tail is None else self.tail.shape[1], self.started)

    @staticmethod
    def merge(states: Sequence[WindowState]) -> WindowState:
        tails = [state.tail for state in states if state.tail is not None]
        return WindowState(torch.cat(tails) if tails else None, states[0].started)

    def split(self, rows: int) -> list[WindowState]:
        if self.tail is None:
            return [self] * rows
        return [WindowState(tail, self.started) for tail in self.tail.chunk(rows)]


@dataclass(frozen=True, slots=True)
class LstmState:
    """Hidden and cell state of every layer, [layers, B, C] each."""

    hidden: Tensor
    cell: Tensor

    @staticmethod
    def merge(states: Sequence[LstmState]) -> LstmState:
        return LstmState(torch.cat([s.hidden for s in states], 1), torch.cat([s.cell for s in states], 1))

    def split(self, rows: int) -> list[LstmState]:
        return [LstmState(h, c) for h, c in zip(self.hidden.chunk(rows, 1), self.cell.chunk(rows, 1), strict=True)]


@dataclass(frozen=True, slots=True)
class DecoderState:
    """Everything a stream carries, for a batch of B streams that stand at like places.

    Attributes:
        first: of the convolution before the LSTM.
        lstm: of the LSTM.
        stages: of the upsampling stages, residual blocks and the last convolution, in order.
        pending: [B, samples] final samples that do not fill a frame yet.
    """

    first: WindowState
    lstm: LstmState
    stages: tuple[WindowState, ...]
    pending: Tensor

    def shape_key(self) -> tuple[object, ...]:
        """Streams with equal keys take the same path through the decoder, so they can be batched."""
        return (self.pending.shape[1], self.first.shape_key(), *(stage.shape_key() for stage in self.stages))

    @staticmethod
    def merge(states: Sequence[DecoderState]) -> DecoderState:
        """One batch of streams whose keys are equal, in the order given."""
        if len(states) == 1:
            return states[0]
        return DecoderState(
            first=WindowState.merge([state.first for state in states]),
            lstm=LstmState.merge([state.lstm for state in states]),
            stages=tuple(WindowState.merge(stage) for stage in zip(*(state.stages for state in states), strict=True)),
            pending=torch.cat([state.pending for state in states]),
        )

    def split(self) -> list[DecoderState]:
        """The streams of a batch, each with a batch of one."""
        rows = self.pending.shape[0]
        if rows == 1:
            return [self]
        firsts, lstms = self.first.split(rows), self.lstm.split(rows)
        stages = zip(*(stage.split(rows) for stage in self.stages), strict=True)
        parts = zip(firsts, lstms, stages, torch.tensor_split(self.pending, rows), strict=True)
        return [DecoderState(first, lstm, stage, pending) for first, lstm, stage, pending in parts]
