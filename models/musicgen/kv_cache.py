"""The one owner of what rows remember: keys and values of their past, and of their text.

A track's length is known before it starts, so a row reserves exactly the positions it will need, in one piece, from
an arena that is made once: no paging, no growth, no eviction.

    arena, per layer [2, H, P, Dh]:   |row a········|row c····|  gap  |row b··············|  gap  |
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.config import DecoderConfig
from models.musicgen.rows import RowCache, RowHandle, advance

CrossKV = Sequence[tuple[Tensor, Tensor]]
"""Per layer K and V of the text, each [H, T, Dh]."""


class KVCache(RowCache):
    """Keys and values of all rows, as torch tensors.

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
        super().__init__(positions)
        shape = (config.num_layers, 2, config.num_heads, positions, config.head_dim)
        # Never read before it is written, so never cleared: a region's former owner leaves nothing that counts.
        self._arena = torch.empty(shape, device=device, dtype=dtype)
        self._layers = self._arena.unbind(0)

    def view(self, rows: Sequence[RowHandle], filled: Sequence[RowHandle] = ()) -> KVCacheView:
        return KVCacheView(self, [*rows, *filled], len(rows))

    def _kept(self, text: CrossKV) -> tuple[list[Tensor], list[Tensor]]:
        dtype = self._arena.dtype
        return [key.to(dtype).unsqueeze(0) for key, _ in text], [value.to(dtype).unsqueeze(0) for _, value in text]


class KVCacheView:
    """Some rows of the cache, as a step sees them. The composition of a batch changes seldom: keep the view.

    Attributes:
        num_sampled: rows, from the first, whose logits are wanted.
    """

    def __init__(self, cache: KVCache, rows: Sequence[RowHandle], num_sampled: int) -> None:
        assert all(row in cache._cross for row in rows), "a row was freed: this is a bug"
        self._cache = cache
        self._rows = tuple(rows)
        self.num_sampled = num_sampled
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
        assert all(row in self._cache._cross for row in self._rows), "a row of this view was freed: this is a bug"
        each = positions.tolist()
        advance(self._rows, each)
        return StepKV(self._cache, self._rows, each, self._starts + positions)


class StepKV:
    """Keys and values of one step: each row's own past and the position it is about to write."""

    def __init__(self, cache: KVCache, rows: Sequence[RowHandle], positions: Sequence[int], slots: Tensor) -> None:
        self._layers = cache._layers
        self._dtype = cache._arena.dtype
        self._slots = slots  # [R] positions in the arena
        arena = cache._arena.flatten(0, 1).unsqueeze(1)  # [2 · layers, 1, H, P, Dh], keys and values in turn
        # Up to its own position, not the row's latest: where a row is there several times they are of one step.
        self._pasts = [
            arena.narrow(3, row.start, position + 1).unbind(0) for row, position in zip(rows, positions, strict=True)
        ]

    def store(self, layer: int, keys_values: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Write the new position and return all there is.

        Args:
            keys_values: [R, 2, H, Dh]

        Returns:
            Keys and values, for each row [1, H, n, Dh]; views, valid for this step.
        """
        self._layers[layer].index_copy_(2, self._slots, keys_values.permute(1, 2, 0, 3).to(self._dtype))
        return [past[2 * layer] for past in self._pasts], [past[2 * layer + 1] for past in self._pasts]
