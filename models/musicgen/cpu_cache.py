"""What rows remember, as the CPU kernel keeps it: keys in blocks of 16 positions, values position by position.

    arena, per layer and head:   keys [P / 16][16 positions side by side]   values [P][Dh]

In float32 for float32 weights, else in bfloat16: half of the bytes, and attention over long pasts is bytes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.config import DecoderConfig
from models.kernels.cpu.library import BLOCK, Batch, Layer, Model
from models.musicgen.rows import RowCache, RowHandle, advance


@dataclass(frozen=True, slots=True)
class PackedText:
    """A text's keys and values of all layers, in the kernel's order.

    Attributes:
        keys: [layers, heads · Dh · T rounded up to a block]
        values: the same.
        tokens: T.
    """

    keys: Tensor
    values: Tensor
    tokens: int


class CpuKVCache(RowCache):
    """
    Args:
        positions: over all rows.
        max_rows: rows that live together; each may need up to a block more than it asked for.
        dtype: of keys and values.
        model, layers: the kernel's view of the weights. The cache keeps a copy that points to its own arena: engines
            may share weights, each with rows of its own.
    """

    def __init__(
        self,
        config: DecoderConfig,
        positions: int,
        max_rows: int,
        dtype: torch.dtype,
        model: Model,
        layers: ctypes.Array[Layer],
    ) -> None:
        total = -(-(positions + max_rows * (BLOCK - 1)) // BLOCK) * BLOCK
        super().__init__(total, BLOCK)
        self.config = config
        # Never read before it is written, so never cleared; the system hands out pages as they are touched.
        shape = (config.num_layers, config.num_heads * total * config.head_dim)
        self._keys, self._values = torch.empty(shape, dtype=dtype), torch.empty(shape, dtype=dtype)
        self._layers = type(layers).from_buffer_copy(layers)
        for layer, keys, values in zip(self._layers, self._keys, self._values, strict=True):
            layer.keys, layer.values = keys.data_ptr(), values.data_ptr()
        self.model = Model.from_buffer_copy(model)
        self.model.layers, self.model.positions = self._layers, total

    def view(self, rows: Sequence[RowHandle], filled: Sequence[RowHandle] = ()) -> CpuKVCacheView:
        return CpuKVCacheView(self, [*rows, *filled], len(rows))

    def _kept(self, text: PackedText) -> PackedText:
        return text


class CpuKVCacheView:
    """Some rows as the kernel's step takes them, with all the room it works in: a step allocates nothing.

    Attributes:
        batch: the kernel's structure, but for the codes and positions of one step.
        logits: float32 [S, K, V] of the first S rows, which are sampled; written by every step.
    """

    def __init__(self, cache: CpuKVCache, rows: Sequence[RowHandle], num_sampled: int) -> None:
        assert all(row in cache._cross for row in rows), "a row was freed: this is a bug"
        self.cache = cache
        self._rows = tuple(rows)
        texts: list[PackedText | None] = [cache._cross[row] for row in rows]
        heard = [(index, text) for index, text in enumerate(texts) if text is not None]
        self._texts = [text for _, text in heard]  # alive as long as the kernel may read them
        self._starts = torch.tensor([row.start for row in rows])
        self._conditioned = torch.tensor([index for index, _ in heard], dtype=torch.int64)
        self._tokens = torch.tensor([text.tokens for text in self._texts], dtype=torch.int64)
        pointers = ctypes.c_void_p * len(heard)
        self._keys = pointers(*(text.keys.data_ptr() for text in self._texts))
        self._values = pointers(*(text.values.data_ptr() for text in self._texts))
        self._make_room(cache.config, num_sampled)

    def _make_room(self, config: DecoderConfig, num_sampled: int) -> None:
        rows, width = len(self._rows), config.hidden_size
        self.logits = torch.empty(num_sampled, config.num_codebooks, config.vocab_size)
        self._hidden = torch.empty(rows, width)
        self._narrow = torch.empty(rows, width + config.ffn_dim)
        self._wide = torch.empty(rows, 3 * width)
        # Attention weights of the longest past or text, and one row of activations, for each thread.
        longest = max([row.positions for row in self._rows] + [text.tokens for text in self._texts], default=0)
        scratch_positions = -(-longest // BLOCK) * BLOCK
        self._scratch = torch.empty(0)
        self.batch = Batch(
            rows=rows,
            conditioned=len(self._texts),
            scratch_positions=scratch_positions,
            sampled=num_sampled,
            sharing=num_sampled < rows,
            starts=self._starts.data_ptr(),
            conditioned_rows=self._conditioned.data_ptr(),
            text_keys=ctypes.addressof(self._keys),
            text_values=ctypes.addressof(self._values),
            text_tokens=self._tokens.data_ptr(),
            hidden=self._hidden.data_ptr(),
            narrow=self._narrow.data_ptr(),
            wide=self._wide.data_ptr(),
            logits=self.logits.data_ptr(),
        )

    @property
    def num_rows(self) -> int:
        return len(self._rows)

    def advance(self, positions: Tensor, threads: int) -> None:
        """Open one new position in each row, for a step of so many threads.

        Args:
            positions: int64 [R]; a row's positions come in order, 0 first. The last one may be repeated.
        """
        assert all(row in self.cache._cross for row in self._rows), "a row of this view was freed: this is a bug"
        advance(self._rows, positions.tolist())
        config = self.cache.config
        room = threads * (self.batch.scratch_positions + max(config.hidden_size, config.ffn_dim))
        if self._scratch.numel() < room:
            self._scratch = torch.empty(room)
            self.batch.scratch = self._scratch.data_ptr()
        self.batch.threads = threads
