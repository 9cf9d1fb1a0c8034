"""What a static step reads and writes: made once, updated in place, never moved.

Everything about a request lives under its slot and stays there while it pauses: its parameters, where its rows lie, how
far it is, its codes. Which requests are in a step is then only a list of slots, so that a row that pauses or comes back
changes a few numbers and nothing else. The last slot is nobody's: rows that fill a bucket up work there.

All that the host decides is one block of bytes, copied in one piece when something joins or the list changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.config import DecoderConfig
from models.engine.random_numbers import window_seed
from models.engine.sampler import _SMALLEST_TEMPERATURE
from models.engine.sequence import Sequence
from models.musicgen.rows import RowHandle
from models.musicgen.static_cache import StaticKVCache

# Lines of `Control.layout`, int64 [.., R]: for each lane (a request, in order) and each row (conditioned rows in the
# order of the lanes, then null rows). As many lanes as rows; those beyond the requests are nobody's.
LANE_SLOT, NULL_ROW, LANE_LIVE, ROW_SLOT, ROW_PLACE = range(5)
_LAYOUT_LINES = 5

# Lines of `Control.integers`, int64 [.., S + 1], by slot. START and TEXT_LENGTH have a line for each row of a pair, so
# that row 1 of a slot is found at ``ROW_PLACE = slots + slot`` of the two taken together.
SEED, FRAMES, TOP_K, GREEDY, START, NULL_START, TEXT_LENGTH, NULL_TEXT_LENGTH, TEXT_START = range(9)
_INTEGER_LINES = 9

# Lines of `Control.numbers`, float32 [.., S + 1], by slot.
GUIDANCE, TEMPERATURE, TOP_P = range(3)
_NUMBER_LINES = 3


class Control:
    """What the host decides, as tensors over one block of bytes.

    Args:
        rows: most rows of a step.
        slots: most requests, paused ones included.
        pinned: of host memory, so that a copy to the device need not be waited for.

    Attributes:
        layout: int64 [5, R]
        integers: int64 [9, S + 1]; top-k is 0 where it does not apply.
        numbers: float32 [3, S + 1]; guidance is 1 and top-p 0 where they do not apply.
    """

    def __init__(self, rows: int, slots: int, device: torch.device | str, pinned: bool = False) -> None:
        wide = slots + 1
        sizes = (8 * _LAYOUT_LINES * rows, 8 * _INTEGER_LINES * wide, 4 * _NUMBER_LINES * wide)
        self._bytes = torch.zeros(sum(sizes), dtype=torch.uint8, device=device, pin_memory=pinned)
        layout, integers, numbers = torch.split(self._bytes, list(sizes))
        self.layout = layout.view(torch.int64).view(_LAYOUT_LINES, rows)
        self.integers = integers.view(torch.int64).view(_INTEGER_LINES, wide)
        self.numbers = numbers.view(torch.float32).view(_NUMBER_LINES, wide)

    def copy_from(self, other: Control) -> None:
        """All of it, in one copy that is not waited for where it need not be."""
        self._bytes.copy_(other._bytes, non_blocking=True)

    @property
    def scratch_slot(self) -> int:
        return int(self.integers.shape[1]) - 1

    def clear_layout(self, rows: int) -> None:
        """Rows and lanes that are nobody's."""
        self.layout[:, :rows] = torch.tensor([[self.scratch_slot], [0], [0], [self.scratch_slot], [self.scratch_slot]])
        self.layout[NULL_ROW, :rows] = torch.arange(rows)

    def lay_out(self, sequences: list[Sequence[RowHandle]], rows: int) -> None:
        """Put these requests into a step of so many rows."""
        self.clear_layout(rows)
        slots, wide = [each.slot for each in sequences], self.integers.shape[1]
        guided = [lane for lane, each in enumerate(sequences) if each.num_rows == 2]
        lanes, used = len(slots), len(slots) + len(guided)
        null_slots = [slots[lane] for lane in guided]
        self.layout[LANE_SLOT, :lanes] = torch.tensor(slots, dtype=torch.int64)
        self.layout[LANE_LIVE, :lanes] = 1
        self.layout[NULL_ROW, guided] = torch.arange(lanes, used)
        self.layout[ROW_SLOT, :used] = torch.tensor(slots + null_slots, dtype=torch.int64)
        self.layout[ROW_PLACE, :used] = torch.tensor(slots + [wide + slot for slot in null_slots], dtype=torch.int64)

    def describe(self, sequence: Sequence[RowHandle], cache: StaticKVCache, vocab_size: int) -> None:
        """Put a request's parameters and places under its slot."""
        params, slot = sequence.request.sampling, sequence.slot
        uses_top_k = not params.is_greedy and params.top_p == 0 and 0 < params.top_k < vocab_size
        places = cache.view(sequence.rows)
        null = places[-1]
        integers = (
            window_seed(sequence.request.seed, sequence.window.start),
            sequence.window.frames,
            params.top_k if uses_top_k else 0,
            int(params.is_greedy),
            places[0].start,
            null.start,
            places[0].text_length,
            0,
            places[0].text_start,
        )
        numbers = (
            params.guidance if sequence.num_rows == 2 else 1.0,
            1.0 if params.is_greedy else max(params.temperature, _SMALLEST_TEMPERATURE),
            0.0 if params.is_greedy else params.top_p,
        )
        self.integers[:, slot] = torch.tensor(integers, dtype=torch.int64)
        self.numbers[:, slot] = torch.tensor(numbers, dtype=torch.float32)

    def describe_nobody(self, cache: StaticKVCache) -> None:
        """The last slot: it writes where nobody reads."""
        places = (0, 1, 0, 1, cache.scratch, cache.scratch, 0, 0, cache.text_scratch)
        self.integers[:, self.scratch_slot] = torch.tensor(places, dtype=torch.int64)
        self.numbers[:, self.scratch_slot] = torch.tensor((1.0, 1.0, 0.0))


@dataclass(frozen=True, slots=True)
class Buffers:
    """On the device; written by the step, but for ``control``.

    Attributes:
        steps: int64 [S + 1], steps sampled so far, by slot.
        broken: int64 [S + 1], the first step whose logits were not finite; 0 as long as there is none.
        history: int64 [S + 1, steps + 1, K], codes by slot and step, delayed as they are sampled.
        delays, codebooks: int64 [K]
    """

    control: Control
    steps: Tensor
    broken: Tensor
    history: Tensor
    delays: Tensor
    codebooks: Tensor

    @classmethod
    def of(cls, config: DecoderConfig, rows: int, slots: int, max_steps: int, device: torch.device | str) -> Buffers:
        def by_slot(*shape: int, fill: int = 0) -> Tensor:
            return torch.full((slots + 1, *shape), fill, dtype=torch.int64, device=device)

        return cls(
            control=Control(rows, slots, device),
            steps=by_slot(),
            broken=by_slot(),
            history=by_slot(max_steps + 1, config.num_codebooks, fill=config.special_token),
            delays=torch.tensor(config.delays, dtype=torch.int64, device=device),
            codebooks=torch.arange(config.num_codebooks, dtype=torch.int64, device=device),
        )

    def clear_slot(self, slot: int, special: int) -> None:
        """As new: for a request that joins."""
        self.steps[slot] = 0
        self.broken[slot] = 0
        self.history[slot] = special
