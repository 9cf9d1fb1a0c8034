"""One whole step as a function on buffers: codes in, transformer, guidance, sampling, delay pattern, codes out.

It takes nothing but a number of rows, gives nothing back, waits for nothing and decides nothing by a value, so it may
be run as it is, on any device, or captured once per number of rows and replayed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.engine.static_buffers import (
    LANE_LIVE,
    LANE_SLOT,
    NULL_TEXT_LENGTH,
    ROW_PLACE,
    ROW_SLOT,
    START,
    TEXT_LENGTH,
    TEXT_START,
    Buffers,
)
from models.engine.static_sampler import TorchSampler
from models.musicgen.static_cache import StaticKVCache
from models.musicgen.static_decoder import StaticDecoder, StepRows


class StaticStep:
    """
    Args:
        longest: positions of the longest window.
    """

    def __init__(self, decoder: StaticDecoder, cache: StaticKVCache, buffers: Buffers, longest: int) -> None:
        self._decoder = decoder
        self._cache = cache
        self._buffers = buffers
        self._longest = longest
        config = decoder.config
        self._torch_sampler = TorchSampler(buffers, config.vocab_size, config.special_token)

    def __call__(self, rows: int) -> None:
        """Advance the requests laid out in ``buffers.control`` by one step; ``rows`` is the size of the step."""
        buffers = self._buffers
        layout = buffers.control.layout[:, :rows]
        positions = buffers.steps.index_select(0, layout[ROW_SLOT])
        lines = buffers.history.view(-1, buffers.history.shape[2])
        codes = lines.index_select(0, layout[ROW_SLOT] * buffers.history.shape[1] + positions)  # [R, K]
        logits = self._decoder.forward(codes, positions, self._rows(layout, positions), self._cache)
        self._sample(logits)
        buffers.steps.index_add_(0, layout[LANE_SLOT], layout[LANE_LIVE])

    def _rows(self, layout: Tensor, positions: Tensor) -> StepRows:
        integers = self._buffers.control.integers
        starts = integers[START : START + 2].view(-1).index_select(0, layout[ROW_PLACE])
        texts = integers[TEXT_LENGTH : NULL_TEXT_LENGTH + 1].view(-1).index_select(0, layout[ROW_PLACE])
        is_real = layout[ROW_SLOT] != self._buffers.control.scratch_slot
        return StepRows(
            places=starts + positions,
            starts=starts.int(),
            lengths=torch.where(is_real, positions + 1, 0).int(),
            text_starts=integers[TEXT_START].index_select(0, layout[ROW_SLOT]).int(),
            text_lengths=texts.int(),
            longest=self._longest,
        )

    def _sample(self, logits: Tensor) -> None:
        if self._decoder.options.layers == "torch":
            self._torch_sampler.sample(logits)
            return
        from models.kernels.triton.sampling import sample_step

        buffers, control = self._buffers, self._buffers.control
        sample_step(
            logits,
            control.layout,
            control.integers,
            control.numbers,
            buffers.steps,
            buffers.history,
            buffers.broken,
            buffers.delays,
        )
