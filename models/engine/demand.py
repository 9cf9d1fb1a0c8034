"""What listeners need by when, against the rows that a machine offers. Plain numbers, no state.

A track needs its rows from when its slack is used up until it is made. What is known of a window (a melody, the music
it goes on from, the overlap with the window before) must be worked through as well, in rows of the same steps, and the
listener does not wait meanwhile: where a window begins, all of that is due at once.

    positions      .------  made          a position of each row for each frame
    due         | /
              .-'/          window 2      its overlap
             /                            a position of each row for each frame
            +---------------> time
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import ceil, inf

from models.engine.sequence import Row, Sequence

Change = tuple[float, float, int]
"""At a time, in seconds from now: row-seconds that are due then, and rows that are needed more, or fewer, from then."""

_ROUNDING_S = 1e-9  # sums of steps are not exact
_AHEAD_FRAMES = 700  # before a window begins; from there on its track gets ahead of its listener


def needs(sequence: Sequence[Row], begin_s: float, period_s: float) -> list[Change]:
    """What a track needs from a machine that makes steps of ``period_s`` without known music in them.

    Args:
        begin_s: when its slack is used up.
        period_s: of a frame.
    """
    end_s = begin_s + sequence.remaining_steps * period_s
    return [(begin_s, 0.0, sequence.num_rows), (end_s, 0.0, -sequence.num_rows)]


def exact_needs(sequence: Sequence[Row], begin_s: float, due_s: float, period_s: float) -> list[Change]:
    """`needs` of a track of several windows or with music known before: not a position of a row less than what is
    computed for it.

    Args:
        begin_s: when its slack is used up.
        due_s: when its next chunk must be there.
    """
    rows, at_s = sequence.num_rows, begin_s
    changes: list[Change] = []
    for frames, positions in _milestones(sequence):
        next_s, whole_s = max(at_s, due_s + frames * period_s), positions * period_s
        is_late = at_s + whole_s > next_s + _ROUNDING_S  # one position of each row for each frame is too little
        changes.append((at_s if is_late else next_s - whole_s, 0.0, rows))
        changes.append((next_s, rows * (at_s + whole_s - next_s) if is_late else 0.0, -rows))
        at_s = next_s
    return changes


def steps_to_put_by(sequence: Sequence[Row]) -> int:
    """Of the steps that the next window's overlap takes, beyond the next chunk: those to be ahead by already. All of
    them at once would be a jump in what the track needs when nobody can give it that much any more."""
    if sequence.listener is None or sequence.window_index + 1 >= len(sequence.windows):
        return 0
    window, following = sequence.window, sequence.windows[sequence.window_index + 1]
    frames = window.start + window.frames - sequence.listener.codes_wanted
    if not 0 <= frames < _AHEAD_FRAMES:
        return 0
    steps = ceil((sequence.prefix + following.known) / sequence.fill_share) + sequence.largest_delay + sequence.lag
    return round(steps * (1 - frames / _AHEAD_FRAMES))


def is_enough(offered: float, changes: Iterable[Change]) -> bool:
    """Whether so many rows, from now on, are enough for all these needs. They are if they are wherever work is due or
    rows are needed no longer."""
    needed, due, at_s = 0, 0.0, -inf
    for time_s, work, change in sorted(changes):
        due += (needed * (time_s - at_s) if needed else 0.0) + work
        if (work or change < 0) and due > offered * time_s + _ROUNDING_S:
            return False
        needed, at_s = needed + change, time_s
    return True


def _milestones(sequence: Sequence[Row]) -> Iterator[tuple[int, int]]:
    """Up to the end of what is known of each window, and to the track's end: by when, in frames after the last of the
    next chunk, and the positions of each row until there, from the milestone before."""
    assert sequence.listener is not None, "nobody listens: this is a bug"
    wanted, window = min(sequence.listener.codes_wanted, sequence.frames), sequence.window
    ahead = sequence.largest_delay + sequence.lag  # steps from the last of them to the frame it is needed for
    positions = sequence.unfilled_steps
    if positions:
        yield window.start + window.known - wanted - ahead, positions
    positions = sequence.unsampled_steps
    for window in sequence.windows[sequence.window_index + 1 :]:
        yield window.start + window.known - wanted - ahead, positions + sequence.prefix + window.known
        positions = window.frames - window.known + sequence.largest_delay
    yield sequence.frames - wanted - sequence.lag, positions
