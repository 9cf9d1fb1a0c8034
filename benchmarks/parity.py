"""Do all sides do the same work? If not, comparing their speed says nothing: checked before a clock is started.

In float32 every code must be equal, or the comparison is refused. In other formats no two implementations agree for
long, so what is checked is that lengths are right, and what is reported is how far codes agree with float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.sides import Codes, Made, Side
from benchmarks.workload import Stream
from models.errors import TuttiError


class DifferentWorkError(TuttiError):
    """The two sides did not make the same: there is nothing to compare."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Greedy codes against the reference's. Once one differs, those after it listen to another past.

    Attributes:
        codes: compared.
        equal: share of them that is the same.
        frames_until_differing: frames before the first that differs; all of them if none does.
    """

    codes: int
    equal: float
    frames_until_differing: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def agreement(codes: Codes, reference: Codes) -> Agreement:
    """Of two tracks ``[K, frames]`` of one length."""
    same = codes == reference
    differing = np.flatnonzero(~same.all(axis=0))
    return Agreement(codes.size, float(same.mean()), int(differing[0]) if differing.size else codes.shape[1])


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
    check_lengths(made, streams)
    check_lengths(wanted, streams, padded=True)
    longest = max(stream.frames for stream in streams)
    compared = 0
    for index, stream in enumerate(streams):
        frames = stream.frames if stream.frames == longest else max(0, stream.frames - largest_delay)
        left, right = made.codes[index][:, :frames], wanted.codes[index][:, :frames]
        if not np.array_equal(left, right):
            frame = agreement(left, right).frames_until_differing
            raise DifferentWorkError(
                f"refused: greedy codes of stream {index} ({stream.prompt!r}) differ from transformers' from frame "
                f"{frame} of {frames} on, so the two sides do different work. Two tokens may tie: try another --seed; "
                "if it stays, the engine is wrong"
            )
        compared += left.size
    return compared


def check_lengths(made: Made, streams: Sequence[Stream], padded: bool = False) -> None:
    """What was asked for, no less and no more; a peer that pads makes each stream as long as the longest.

    Raises:
        DifferentWorkError: saying what was made.
    """
    asked = tuple(stream.frames for stream in streams)
    if made.frames != asked and not (padded and made.frames == (max(asked),) * len(asked)):
        raise DifferentWorkError(f"refused: {list(asked)} frames were asked for, {list(made.frames)} were made")
