"""Who works through known music in a step, and how much of it. Plain numbers.

A track that goes on from another, and every window of a long track but the first, begins with positions whose codes
are known. They are worked through beside the rows that sample, as rows of the same step, one for each position: so many
in a step and no more, so that nobody's step becomes long, however long the music is.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from models.engine.sequence import Row, Sequence


def shares(
    filling: Iterable[Sequence[Row]], rows: int, unheard_first: bool = False
) -> tuple[tuple[Sequence[Row], int], ...]:
    """Positions of each row of these requests to be filled in a step; maybe 0.

    All there is goes to who needs it soonest, what that leaves to the next: so the first is done soon, and nobody
    later than with equal shares.

    Args:
        filling: in order of arrival.
        rows: of the step, at least as many as one request has.
        unheard_first: who nobody listens to comes before the others and not after them, as it must now and then: where
            somebody is always in a hurry, it would hold its rows and never get on.
    """
    divided, unheard_s = [], -inf if unheard_first else inf
    for each in sorted(filling, key=lambda each: unheard_s if each.listener is None else each.listener.slack_s):
        share = min(each.unfilled_steps, rows // each.num_rows)
        rows -= share * each.num_rows
        divided.append((each, share))
    return tuple(divided)
