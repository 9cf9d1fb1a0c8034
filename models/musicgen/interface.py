"""What an engine asks of a decoder, whichever way its step is computed."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from models.config import DecoderConfig
from models.musicgen.rows import RowCache


class Decoder(Protocol):
    """What they all do; caches and texts are of the decoder's own kind."""

    @property
    def config(self) -> DecoderConfig: ...

    def new_cache(self, positions: int, max_rows: int) -> RowCache: ...

    def project_text(self, encoded: Tensor) -> Tensor: ...

    def cross_kv(self, projected: Tensor) -> Any: ...


class StepDecoder(Decoder, Protocol):
    """`MusicGenDecoder` and `CpuDecoder`: a step is a call, of whichever rows there are. `StaticDecoder` is none."""

    def forward_step(self, codes: Tensor, positions: Tensor, cache: Any) -> Tensor: ...
