"""`models.engine.sampler` with the parameters in tensors and nothing decided by a value: for a captured step.

Every lane goes the way of all of them: top-k, top-p and greedy are computed for everybody and taken where they apply.
The same arithmetic in the same order, so the same logits give the same codes. On a GPU the kernel in
`models.kernels.triton.sampling` does this without sorting.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.engine.random_numbers import exponentials, token_offsets
from models.engine.static_buffers import (
    FRAMES,
    GREEDY,
    GUIDANCE,
    LANE_SLOT,
    NULL_ROW,
    SEED,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    Buffers,
)


class TorchSampler:
    """
    Args:
        vocab_size: V
    """

    def __init__(self, buffers: Buffers, vocab_size: int, special: int) -> None:
        self._buffers = buffers
        self._vocab_size = vocab_size
        self._special = special
        self._offsets = token_offsets(vocab_size, buffers.steps.device)

    def sample(self, logits: Tensor) -> None:
        """Sample one step of every lane and write it into the history; steps are not advanced.

        Args:
            logits: float32 [R, K, V]
        """
        buffers = self._buffers
        rows = len(logits)
        slots = buffers.control.layout[LANE_SLOT, :rows]
        integers = buffers.control.integers.index_select(1, slots)  # [.., R]
        numbers = buffers.control.numbers.index_select(1, slots)
        steps = buffers.steps.index_select(0, slots) + 1
        null = logits.index_select(0, buffers.control.layout[NULL_ROW, :rows])
        guided = null + (logits - null) * _column(numbers[GUIDANCE])
        self._note_broken(guided, slots, steps)
        scores = self._truncated(guided, integers, numbers)
        scores /= exponentials(integers[SEED], steps, buffers.codebooks, self._offsets, self._vocab_size)
        codes = torch.where(_column(integers[GREEDY]) > 0, guided, scores).argmax(-1)  # [R, K]
        frames = steps[:, None] - 1 - buffers.delays
        codes = codes.masked_fill((frames < 0) | (frames >= integers[FRAMES][:, None]), self._special)
        lines = buffers.history.view(-1, codes.shape[1])
        lines.index_copy_(0, slots * buffers.history.shape[1] + steps, codes)

    def _note_broken(self, guided: Tensor, slots: Tensor, steps: Tensor) -> None:
        known = self._buffers.broken.index_select(0, slots)
        is_new = (known == 0) & ~guided.sum(dim=(1, 2)).isfinite()
        self._buffers.broken.index_copy_(0, slots, torch.where(is_new, steps, known))

    def _truncated(self, guided: Tensor, integers: Tensor, numbers: Tensor) -> Tensor:
        """See `models.engine.sampler.truncated_probabilities`."""
        shifted = guided - guided.amax(dim=-1, keepdim=True)
        probs = (shifted / _column(numbers[TEMPERATURE])).softmax(dim=-1)
        ordered, order = probs.sort(dim=-1, descending=True, stable=True)
        top_k, top_p = _column(integers[TOP_K]), _column(numbers[TOP_P])
        kth = ordered.gather(-1, (top_k - 1).clamp_(min=0).expand(-1, probs.shape[1], 1))
        too_unlikely = (top_k > 0) & (probs < kth)
        beyond = (ordered.cumsum(dim=-1).sub_(ordered) > top_p) & (top_p > 0)
        beyond = torch.empty_like(beyond).scatter_(-1, order, beyond)
        return probs.masked_fill_(too_unlikely | beyond, 0.0)


def _column(values: Tensor) -> Tensor:
    """[R] -> [R, 1, 1]"""
    return values[:, None, None]
