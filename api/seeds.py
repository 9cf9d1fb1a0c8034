"""The seeds of variations."""

from __future__ import annotations

from models.types import MAX_SEED


def track_seed(seed: int, position: int) -> int:
    """The seed of one track, within what a generator takes.

    Args:
        seed: of track 0.
    """
    return (seed + position) % (MAX_SEED + 1)
