"""A monotonic clock that is moved by hand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Ticking:
    """Seconds; stands still unless moved."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def forward(self, seconds: float) -> None:
        self.now_s += seconds
