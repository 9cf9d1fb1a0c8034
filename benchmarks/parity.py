"""Both sides must do the same work, or comparing their speed says nothing: checked before a clock is started."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.sides import Made, Side
from benchmarks.workload import Stream
from models.errors import TuttiError


class DifferentWorkError(TuttiError):
    """The two sides did not make the same: there is nothing to compare."""


def check_parity(ours: Side, theirs: Side, streams: Sequence[Stream], largest_delay: int) -> int:
    """Both sides make these streams greedily, in float32; code by code the same?

    A stream that is shorter than the batch is padded on the other side, where its last frames are made as if more were
    to come: as many as the largest delay, and these are left out.

    Returns:
        codes compared, all of them equal.

    Raises:
        DifferentWorkError: naming the first stream and frame that differ.
    """
    made, wanted = ours.make(streams, greedy=True), theirs.make(streams, greedy=True)
    check_lengths(made, wanted, streams)
    longest = max(stream.frames for stream in streams)
    compared = 0
    for index, stream in enumerate(streams):
        frames = stream.frames if stream.frames == longest else max(0, stream.frames - largest_delay)
        left, right = made.codes[index][:, :frames], wanted.codes[index][:, :frames]
        if not np.array_equal(left, right):
            frame = int(np.flatnonzero((left != right).any(axis=0))[0])
            raise DifferentWorkError(
                f"refused: greedy codes of stream {index} ({stream.prompt!r}) differ from transformers' from frame "
                f"{frame} of {frames} on, so the two sides do different work. Two tokens may tie: try another --seed; "
                "if it stays, the engine is wrong"
            )
        compared += left.size
    return compared


def check_lengths(ours: Made, theirs: Made, streams: Sequence[Stream]) -> None:
    """Ours made what was asked for, theirs each stream as long as the longest.

    Raises:
        DifferentWorkError: saying who made what.
    """
    asked = tuple(stream.frames for stream in streams)
    if ours.frames != asked or theirs.frames != (max(asked),) * len(asked):
        raise DifferentWorkError(
            f"refused: {list(asked)} frames were asked for, Tutti made {list(ours.frames)} "
            f"and transformers {list(theirs.frames)}"
        )
