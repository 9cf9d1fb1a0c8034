"""What an engine asks of a decoder, whichever way its step is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from models.config import DecoderConfig
from models.musicgen.rows import RowCache


@dataclass(frozen=True, slots=True)
class Given:
    """Rows of a step whose input is no codes: a melody's or text's positions where there is no cross-attention.

    Attributes:
        rows: int64 [G], which of the step's.
        embeddings: float32 [G, D], in place of the sum of their codes' embeddings.
    """

    rows: Tensor
    embeddings: Tensor


class Decoder(Protocol):
    """What they all do; caches and texts are of the decoder's own kind."""

    @property
    def config(self) -> DecoderConfig: ...

    def new_cache(self, positions: int, max_rows: int) -> RowCache: ...

    def project_text(self, encoded: Tensor) -> Tensor: ...

    def cross_kv(self, projected: Tensor) -> Any: ...


class StepDecoder(Decoder, Protocol):
    """`MusicGenDecoder` and `CpuDecoder`: a step is a call, of whichever rows there are. `StaticDecoder` is none."""

    def forward_step(self, codes: Tensor, positions: Tensor, cache: Any, given: Given | None = None) -> Tensor: ...
