"""Which part of a sound a track takes its style from: drawn from the track's seed, so whoever knows the seed knows it.

Plain integers, no torch: the platform says in its results what an engine somewhere else has drawn.
"""

from __future__ import annotations

_WORD = 2**64 - 1


def excerpt_start(seed: int, first_frame: int, room: int) -> int:
    """The first sample, 0 … room, all alike.

    Args:
        seed: of the track.
        first_frame: of the window: each draws anew, as each of audiocraft's windows does.
        room: samples of the sound less those of the excerpt.
    """
    key = _mixed((_mixed(seed) + first_frame) & _WORD)
    return _mixed(key) * (room + 1) >> 64


def _mixed(value: int) -> int:
    """A step of SplitMix64 (Steele, Lea and Flood, 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _WORD
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _WORD
    return value ^ value >> 31
