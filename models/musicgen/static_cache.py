"""The static step's memory: keys and values of every row's past and text, at addresses that never change.

    past, per layer K and V [H, P + 1, Dh]:   |row a ········|row b ··|  gap  |row c ·····|  gap  |scratch|
    text, per layer K and V [H, T + 1, Dh]:   |text a|text c|           gap              |scratch|

A captured graph holds addresses, so what changes from step to step is where each row's region starts and how long it
is: two numbers per row, in tensors that are updated in place. Rows that only fill a batch up write to the
scratch position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.config import DecoderConfig
from models.engine_config import KV_FORMATS
from models.errors import GenerationFailedError
from models.kernels.decode_attention import LayerKV
from models.musicgen.rows import RowCache, RowHandle


@dataclass(frozen=True, slots=True)
class RowPlace:
    """Where one row's past and text lie; a row without text has ``text_length`` 0."""

    start: int
    text_start: int
    text_length: int


class StaticKVCache(RowCache):
    """
    Args:
        positions: of the pasts, over all rows.
        text_positions: tokens of text, over all requests that run.
        kv: one of `models.engine_config.KV_FORMATS`, of the past; texts keep the weights' type.
    """

    def __init__(
        self,
        config: DecoderConfig,
        positions: int,
        text_positions: int,
        device: torch.device | str,
        dtype: torch.dtype,
        kv: str = "model",
    ) -> None:
        super().__init__(positions)
        assert kv in KV_FORMATS, f"{kv!r} is no format of keys and values: this is a bug"
        self.scratch = positions
        self._texts = _Regions(text_positions)
        self._text = _arena(config, text_positions + 1, device, dtype)
        self.texts = [LayerKV(layer[0], layer[1]) for layer in self._text]
        past = _arena(config, positions + 1, device, torch.int8 if kv == "int8" else dtype)
        scales: list[Tensor | None] = [None] * config.num_layers
        if kv == "int8":
            shape = (config.num_layers, 2, config.num_heads, positions + 1)
            scales = list(torch.zeros(shape, dtype=torch.float16, device=device))
        self.layers = [LayerKV(layer[0], layer[1], scale) for layer, scale in zip(past, scales, strict=True)]

    @property
    def text_scratch(self) -> int:
        """A text position that is nobody's."""
        return self._text.shape[3] - 1

    def view(self, rows: Sequence[RowHandle], filled: Sequence[RowHandle] = ()) -> list[RowPlace]:
        """Where these rows lie."""
        assert all(row in self._cross for row in (*rows, *filled)), "a row was freed: this is a bug"
        return [self._place(row, self._cross[row]) for row in (*rows, *filled)]

    def check_integrity(self) -> None:
        """As `RowCache.check_integrity`, of texts too."""
        super().check_integrity()
        self._texts.check_integrity()
        held = {text for text in self._cross.values() if text is not None}
        assert len(held) == self._texts.num_rows, "a text outlived its row"

    def _place(self, row: RowHandle, text: RowHandle | None) -> RowPlace:
        return (
            RowPlace(row.start, self.text_scratch, 0)
            if text is None
            else RowPlace(row.start, text.start, text.positions)
        )

    def _kept(self, text: Tensor) -> RowHandle:
        """
        Args:
            text: [L, 2, H, T, Dh], `StaticDecoder.cross_kv`.

        Raises:
            GenerationFailedError: all room for texts is taken.
        """
        tokens = text.shape[3]
        if not self._texts.can_allocate([tokens]):
            raise GenerationFailedError(
                f"the prompts of the tracks being made leave no room for {tokens} tokens more; try again, with a "
                "shorter prompt, or raise the engine's text_positions"
            )
        region = self._texts.allocate(tokens)
        self._text[:, :, :, region.start : region.end].copy_(text)
        return region

    def _drop(self, text: RowHandle) -> None:
        self._texts.free(text)


class _Regions(RowCache):
    """Regions of the texts' arena."""

    def view(self, rows: Sequence[RowHandle], filled: Sequence[RowHandle] = ()) -> list[int]:
        return [row.start for row in (*rows, *filled)]

    def _kept(self, text: None) -> None:
        return text


def _arena(config: DecoderConfig, positions: int, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """[L, 2, H, positions, Dh]; never read where it was not written, so never cleared."""
    shape = (config.num_layers, 2, config.num_heads, positions, config.head_dim)
    return torch.empty(shape, device=device, dtype=dtype)
