"""The one owner of what rows remember: keys and values of their past, and of their text.

A track's length is known before it starts, so a row reserves exactly the positions it will need, in one piece, from
an arena that is made once: no paging, no growth, no eviction.

    arena, per layer [2, H, P, Dh]:   |row a········|row c····|  gap  |row b··············|  gap  |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.config import DecoderConfig

CrossKV = Sequence[tuple[Tensor, Tensor]]
"""Per layer K and V of the text, each [H, T, Dh]."""


@dataclass(slots=True, eq=False)
class RowHandle:
    """One row's region of the arena; made and ended by the cache alone.

    Attributes:
        start: first position in the arena.
        positions: reserved.
        length: positions written so far.
    """

    start: int
    positions: int
    length: int = 0

    @property
    def end(self) -> int:
        return self.start + self.positions


class KVCache:
    """
    Args:
        positions: P, over all rows.
        dtype: of the stored keys and values. On a CPU take float32 whatever the weights are: its attention in
            bfloat16 is measured 5 to 8 times slower than in float32.
    """

    def __init__(
        self,
        config: DecoderConfig,
        positions: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        assert positions > 0, "a cache without positions holds nothing: this is a bug"
        shape = (config.num_layers, 2, config.num_heads, positions, config.head_dim)
        # Never read before it is written, so never cleared: a region's former owner leaves nothing that counts.
        self._arena = torch.empty(shape, device=device, dtype=dtype)
        self._positions = positions
        self._layers = self._arena.unbind(0)
        self._gaps = [(0, positions)]  # (start, length), in order, never touching one another
        self._cross: dict[RowHandle, tuple[list[Tensor], list[Tensor]] | None] = {}  # every living row has an entry

    # ------------------------------------------------------------------------------------------------ the verbs

    @property
    def free_positions(self) -> int:
        return sum(length for _, length in self._gaps)

    @property
    def num_rows(self) -> int:
        return len(self._cross)

    def can_allocate(self, positions: Sequence[int]) -> bool:
        """Whether rows of these lengths would fit, allocated one after the other in this order."""
        gaps = list(self._gaps)
        return all(_take_first_fit(gaps, each) is not None for each in positions)

    def allocate(self, positions: int) -> RowHandle:
        """Reserve exactly that many positions, in the first gap that holds them. Ask `can_allocate` before."""
        assert positions > 0, "a row has at least one position: this is a bug"
        start = _take_first_fit(self._gaps, positions)
        assert start is not None, f"no gap of {positions} positions, can_allocate was not asked: this is a bug"
        handle = RowHandle(start, positions)
        self._cross[handle] = None
        return handle

    def free(self, handle: RowHandle) -> None:
        """Give the row's positions and its text back; views of it end."""
        assert handle in self._cross, "a row is freed once: this is a bug"
        del self._cross[handle]
        self._gaps.append((handle.start, handle.positions))
        self._gaps.sort()
        self._gaps = _merged(self._gaps)

    def set_cross(self, handle: RowHandle, cross: CrossKV) -> None:
        """Give a row its text, `MusicGenDecoder.cross_kv`. A row without is a null row and attends to none."""
        assert handle in self._cross, "the row was freed: this is a bug"
        dtype = self._arena.dtype
        keys = [key.to(dtype).unsqueeze(0) for key, _ in cross]
        values = [value.to(dtype).unsqueeze(0) for _, value in cross]
        self._cross[handle] = (keys, values)

    def view(self, rows: Sequence[RowHandle]) -> KVCacheView:
        """These rows, in this order, for steps to come; holds until a row is freed or gets its text."""
        return KVCacheView(self, rows)

    def check_integrity(self) -> None:
        """Every position belongs to exactly one row or gap, and gaps are merged.

        Raises:
            AssertionError: saying what is broken.
        """
        pieces = [(row.start, row.positions, "row") for row in self._cross]
        pieces += [(start, length, "gap") for start, length in self._gaps]
        end, before = 0, "row"
        for start, length, kind in sorted(pieces):
            assert length > 0, f"an empty {kind} at position {start}"
            assert start == end, f"positions {min(start, end)} to {max(start, end)} belong to two or none"
            assert not (kind == before == "gap"), f"two gaps touch at position {start}"
            end, before = start + length, kind
        assert end == self._positions, f"positions {end} to {self._positions} belong to none"
        assert all(row.length <= row.positions for row in self._cross), "a row wrote beyond its region"


class KVCacheView:
    """Some rows of the cache, as a step sees them. The composition of a batch changes seldom: keep the view."""

    def __init__(self, cache: KVCache, rows: Sequence[RowHandle]) -> None:
        assert all(row in cache._cross for row in rows), "a row was freed: this is a bug"
        self._cache = cache
        self._rows = tuple(rows)
        device = cache._arena.device
        self._starts = torch.tensor([row.start for row in rows], dtype=torch.long, device=device)
        cross = [cache._cross[row] for row in rows]
        texts = [each for each in cross if each is not None]
        self.num_conditioned = len(texts)
        conditioned = [index for index, each in enumerate(cross) if each is not None]
        self.conditioned = torch.tensor(conditioned, dtype=torch.long, device=device)
        num_layers = len(cache._layers)
        self.cross_keys = [[keys[layer] for keys, _ in texts] for layer in range(num_layers)]
        self.cross_values = [[values[layer] for _, values in texts] for layer in range(num_layers)]

    @property
    def num_rows(self) -> int:
        return len(self._rows)

    def advance(self, positions: Tensor) -> StepKV:
        """Open one new position in each row.

        Args:
            positions: int64 [R]; a row's positions come in order, 0 first. The last one may be repeated.
        """
        lengths: list[int] = positions.tolist()
        assert len(lengths) == len(self._rows), f"{len(lengths)} positions for {len(self._rows)} rows: this is a bug"
        for row, position in zip(self._rows, lengths, strict=True):
            assert row in self._cache._cross, "a row of this view was freed: this is a bug"
            assert max(0, row.length - 1) <= position <= row.length, f"{position} is not next: this is a bug"
            assert position < row.positions, f"position {position} was not reserved: this is a bug"
            row.length = position + 1
        return StepKV(self._cache, self._rows, self._starts + positions)


class StepKV:
    """Keys and values of one step: each row's own past and the position it is about to write."""

    def __init__(self, cache: KVCache, rows: Sequence[RowHandle], slots: Tensor) -> None:
        self._layers = cache._layers
        self._dtype = cache._arena.dtype
        self._slots = slots  # [R] positions in the arena
        arena = cache._arena.flatten(0, 1).unsqueeze(1)  # [2 · layers, 1, H, P, Dh], keys and values in turn
        self._pasts = [arena.narrow(3, row.start, row.length).unbind(0) for row in rows]

    def store(self, layer: int, keys_values: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Write the new position and return all there is.

        Args:
            keys_values: [R, 2, H, Dh]

        Returns:
            Keys and values, for each row [1, H, n, Dh]; views, valid for this step.
        """
        self._layers[layer].index_copy_(2, self._slots, keys_values.permute(1, 2, 0, 3).to(self._dtype))
        return [past[2 * layer] for past in self._pasts], [past[2 * layer + 1] for past in self._pasts]


def _take_first_fit(gaps: list[tuple[int, int]], positions: int) -> int | None:
    """Cut that many positions from the first gap that has them; returns where, or None."""
    for index, (start, length) in enumerate(gaps):
        if length >= positions:
            gaps[index : index + 1] = [(start + positions, length - positions)] if length > positions else []
            return start
    return None


def _merged(gaps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Touching gaps made one."""
    merged: list[tuple[int, int]] = []
    for start, length in gaps:
        if merged and sum(merged[-1]) == start:
            merged[-1] = (merged[-1][0], merged[-1][1] + length)
        else:
            merged.append((start, length))
    return merged
