"""A track as windows: the model knows at most so many frames at a time, so a longer track is made piece by piece.

    window 0   |known|········new········|                    the prompt of a continuation is known, if there is one
    window 1              |···known····|······new······|      what overlaps with the window before
    window 2                               |···known····|··new··|
    start      ^          ^ + stride       ^ + stride

Each window is a sequence of its own to the model, positions from 0; only what is new is appended. The same windows as
audiocraft's (``extend_stride``), counted in whole frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Window:
    """
    Attributes:
        start: its first frame in the track.
        frames: its length.
        known: how many of them, from its first, are known before it begins; less than ``frames``.
    """

    start: int
    frames: int
    known: int = 0


def windows_of(frames: int, known: int, longest: int, stride: int) -> tuple[Window, ...]:
    """The windows of a track in which something is to be made, the longest first.

    Args:
        frames: of the track.
        known: of its frames from the first on, less than ``frames``. All windows but those that are known are the same
            whatever is known, and an attempt at a track goes on in the window where another ended.
        longest: frames of the longest window.
        stride: frames from one window's start to the next, at least 1 and less than ``longest``.
    """
    assert 0 <= known < frames, f"{known} of {frames} frames are known, nothing is to be made: this is a bug"
    assert 0 < stride < longest, f"windows of {longest} frames every {stride} do not overlap: this is a bug"
    windows, start = [], 0
    while known < frames:
        length = min(frames - start, longest)
        if known < start + length:  # not so where a whole window is known
            windows.append(Window(start, length, known - start))
            known = start + length
        start += stride
    return tuple(windows)


def positions_per_frame(windows: Sequence[Window], largest_delay: int, prefix: int = 0) -> float:
    """Positions that are worked through, overlaps included, for each frame heard: the most there are, on the average
    from the track's beginning to where the listener comes to a new window. 1 where there is but one.

    Args:
        prefix: positions before the music of every window; the listener waits for those of the first.
    """
    worst, positions = 1.0, 0
    for before, window in pairwise(windows):
        positions += prefix + before.frames + largest_delay
        worst = max(worst, (positions + prefix + window.known) / (prefix + window.start + window.known))
    return worst
