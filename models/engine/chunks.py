"""How large each chunk is, and so after which step it leaves. Plain numbers, so that the scheduler may know it too."""

from __future__ import annotations

from models.engine_config import EngineConfig


class ChunkPolicy:
    """How many frames the next chunk should have, at least: small first, then growing up to a limit."""

    def __init__(self, config: EngineConfig, frame_rate: float) -> None:
        self._growth = config.chunk_growth
        self._largest = max(1.0, config.max_chunk_s * frame_rate)
        self._next = min(max(1.0, config.first_chunk_s * frame_rate), self._largest)

    @property
    def frames(self) -> int:
        return int(self._next)

    def grow(self) -> None:
        self._next = min(self._next * self._growth, self._largest)
