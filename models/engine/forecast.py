"""When who is done. Lengths are known, so this is arithmetic; plain numbers, no state."""

from __future__ import annotations

from collections.abc import Collection
from math import ceil

from models.engine.pacing import QUANTUM_STEPS, UNHEARD_SHARE, Pacer
from models.engine.sequence import Row, Sequence, State


def endings(
    held: Collection[Sequence[Row]], pacer: Pacer[Row] | None, active_rows: int, now_s: float
) -> list[tuple[int, Sequence[Row]]]:
    """Everybody who holds rows, with the most steps until it is done, the soonest first.

    Exact while nobody pauses. Otherwise in steps as long as the present ones, if nobody stalls: a listener's track is
    made before it is heard, any other gets its share.

    Args:
        active_rows: of the present steps.
    """
    steps = [(each.remaining_steps, each) for each in held]
    if pacer is not None and any(each.state is State.PAUSED for each in held):
        frame_s, step_s = pacer.period_s, pacer.times.seconds(active_rows)
        steps = [(_most_steps_left(each, frame_s, step_s, now_s), each) for each in held]
    return sorted(steps, key=lambda ending: ending[0])


def _most_steps_left(sequence: Sequence[Row], frame_s: float, step_s: float, now_s: float) -> int:
    own, listener = sequence.remaining_steps, sequence.listener
    if listener is None:
        return round(own / UNHEARD_SHARE) + round(QUANTUM_STEPS / UNHEARD_SHARE)
    heard_s = listener.starts_s + sequence.frames * frame_s
    return max(own, ceil((heard_s - now_s) / step_s))
