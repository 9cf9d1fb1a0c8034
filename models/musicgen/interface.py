"""What an engine asks of a decoder, whichever way its step is computed."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from models.config import DecoderConfig
from models.musicgen.rows import RowCache


class Decoder(Protocol):
    """`MusicGenDecoder` and `CpuDecoder` say what each does; caches, views and texts are of the decoder's own kind."""

    config: DecoderConfig

    def new_cache(self, positions: int, max_rows: int) -> RowCache: ...

    def forward_step(self, codes: Tensor, positions: Tensor, cache: Any) -> Tensor: ...

    def project_text(self, encoded: Tensor) -> Tensor: ...

    def cross_kv(self, projected: Tensor) -> Any: ...
