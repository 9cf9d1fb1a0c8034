"""The delay pattern: at each step every codebook writes one code, each of them some steps behind the first.

step         0  1  2  3  4  …  T  T+1 T+2 T+3        step s carries codebook q at frame s − 1 − delay[q]
codebook 0   ·  0  1  2  3  …  ·   ·   ·   ·         · is the special token
codebook 1   ·  ·  0  1  2  …      ·   ·   ·
codebook 2   ·  ·  ·  0  1  …          ·   ·
codebook 3   ·  ·  ·  ·  0  …              T−1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class DelayPattern:
    """
    Attributes:
        delays: steps by which each codebook runs behind; `DecoderConfig.delays`.
        frames: T, frames of the track, at least 1.
    """

    delays: Sequence[int]
    frames: int

    def __post_init__(self) -> None:
        assert self.frames > 0, "a track has at least one frame: this is a bug"

    @property
    def num_steps(self) -> int:
        """Steps to sample, T + 3 for mono: 1, 2, … Step 0 is all special and never sampled."""
        return self.frames + max(self.delays)

    def is_special(self, step: int, codebook: int) -> bool:
        """Whether that codebook has no code at that step."""
        return not 0 <= step - 1 - self.delays[codebook] < self.frames

    def undo(self, steps: Tensor) -> Tensor:
        """Codes by frame from codes by step.

        Args:
            steps: int64 [num_steps, K]; row i is sampled step i + 1.

        Returns:
            int64 [K, frames]
        """
        assert steps.shape == (self.num_steps, len(self.delays)), f"steps of shape {tuple(steps.shape)}: this is a bug"
        return torch.stack([steps[delay : delay + self.frames, q] for q, delay in enumerate(self.delays)])

    def apply(self, codes: Tensor, special: int) -> Tensor:
        """Codes by step from codes by frame: the inverse of `undo`, with the special token in the cells between.

        Args:
            codes: int64 [K, frames]

        Returns:
            int64 [num_steps, K]; row i is step i + 1.
        """
        assert codes.shape == (len(self.delays), self.frames), f"codes of shape {tuple(codes.shape)}: this is a bug"
        steps = codes.new_full((self.num_steps, len(self.delays)), special)
        for q, delay in enumerate(self.delays):
            steps[delay : delay + self.frames, q] = codes[q]
        return steps
