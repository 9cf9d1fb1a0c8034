"""Who pauses when not everybody can be in the step and in time. Plain numbers; no clock but the time passed in.

A step takes longer the more rows it has, so a step that holds everybody may be too slow for those who are about to
hear silence. Then the tracks furthest ahead of their listeners pause where they are, and the step gets faster.

* **Nobody pauses without need.** While a step of all rows is twice as fast as real time, or fast enough for the next
  chunk of every listener, all run. So it is too when nobody listens, when no step time was measured yet, and when not
  even one listener's rows would run in real time alone: pausing could save nobody.
* **How many rows**: as many as the hurried pace allows, the shortest step that any listener needs for its next chunk.
  Chunks grow, so a listener that has just begun needs steps faster than real time; those ahead pay for it. But when
  more are in a hurry than such a step holds, real time must do: it holds more, and a larger step wastes less.
* **Which**: least slack first, not earliest deadline first: no track can make more than one step in a step, so how far
  it has to go counts as much as until when. A paused track must be worse off by some margin to take a running one's
  place, and the choice holds for a quantum of steps, since each change lays the batch out anew. When there is not
  enough for all in a hurry, who hears music already comes before who waits for it to begin: a late start is no stall.
* **Who nobody listens to** fills what is left, in order of arrival, and gets a fixed share of the steps in any case.
* **Admission** is arithmetic, since lengths are known: a listener's track starts when the rows that run in real time
  can carry everybody's remaining music along with it, each from when its slack is used up, and all overlaps of windows.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from math import ceil, inf
from typing import Generic

from models.engine.demand import Change, exact_needs, is_enough, needs, steps_to_put_by
from models.engine.listener import Listener
from models.engine.sequence import Row, Sequence, State
from models.engine.step_times import StepTimes

Heard = tuple[Sequence[Row], Listener]

QUANTUM_STEPS = 16
"""Steps for which a choice holds unless somebody joins or leaves: a third of a second of audio."""

UNHEARD_SHARE = 0.1
"""Part of the steps that a track nobody listens to gets at least."""

# Steps are planned so much faster than needed, which is where a paused track's return and a slow step come from.
_SAFETY = 0.9
# A paused track's slack must be so much shorter than a running one's to take its place.
_HYSTERESIS_S = 0.5
# Rows of a step that known music may take however hurried the others are: it must be worked through some time.
_LEAST_FILL_ROWS = 4
_UNPAID_QUANTUM = round(QUANTUM_STEPS * (1 / UNHEARD_SHARE - 1))


class Pacer(Generic[Row]):
    """
    Args:
        frame_rate: frames per second, which is also steps per second in real time.

    Attributes:
        times: of steps, as measured.
        predicted_underruns: listeners whose next chunk will be late, as of the latest choice.
        slack_min_s, slack_median_s: over the listeners of the latest choice; 0 without any.
    """

    def __init__(self, frame_rate: float) -> None:
        self.times = StepTimes()
        self.period_s = 1 / frame_rate
        self.predicted_underruns = 0
        self.slack_min_s = 0.0
        self.slack_median_s = 0.0

    @property
    def real_time_rows(self) -> float:
        """Rows of the largest step in real time; infinity while that is unknown."""
        return self.times.rows_within(self.period_s) if self.times.is_known else inf

    def choose(
        self, held: SequenceOf[Sequence[Row]], joined: SequenceOf[Sequence[Row]], now_s: float
    ) -> SequenceOf[Sequence[Row]]:
        """Who runs for the next quantum.

        Args:
            held: all that hold rows, in order of arrival.
            joined: those of them that have just come: their first step is this one.

        Returns:
            Those who run, in order of arrival: all of ``joined``, and at least one.
        """
        heard = _look(held, now_s)
        chosen = held
        if not self._serves_all(held, heard):
            rows, is_short = self._step_size(heard)
            first = {*joined, *_owed(held)}
            order = sorted(held, key=lambda each: (each not in first, *self._rank(each, is_short)))
            taken = _fill(order, rows, len(joined))
            chosen = [each for each in held if each in taken]
        self._predict(heard, chosen)
        return chosen

    def can_carry(self, held: Iterable[Sequence[Row]], newcomer: Sequence[Row], now_s: float) -> bool:
        """Whether a listener's track may start without that somebody runs out of music later on.

        Each listener needs its track's rows, and all that is known of it worked through in time (see ``demand``); the
        rows that run in real time offer what they offer from now on. Where there is known music these are those of a
        step that has room for it, see `room_to_fill`.
        """
        heard, offered = _look(held, now_s), self.real_time_rows
        if newcomer.listener is None or not heard or offered < newcomer.num_rows or offered == inf:
            return True
        is_plain = not newcomer.has_known_music and not any(each.has_known_music for each, _ in heard)
        if is_plain and newcomer.num_rows + sum(each.num_rows for each, _ in heard) <= offered:
            return True
        if not is_plain:
            offered = max(newcomer.num_rows, self.times.rows_within(_SAFETY * self.period_s))
        # It begins when it can, a position of each row in a step of real time; a late start is no stall.
        steps = newcomer.prefix + newcomer.listener.codes_wanted + newcomer.largest_delay + newcomer.lag
        changes = self._needs(newcomer, 0.0, steps * self.period_s, offered)
        for each, listener in heard:
            changes += self._needs(each, listener.slack_s, listener.time_left_s, offered)
        return is_enough(offered, changes)

    def room_to_fill(self, most: int, sampling: Iterable[Sequence[Row]]) -> int:
        """Rows of a step that known music may take beside those who sample: as many as leave it in real time, where
        one of those is listened to; always some."""
        rows, is_heard = 0, False
        for each in sampling:
            rows, is_heard = rows + each.num_rows, is_heard or each.listener is not None
        if not is_heard or not self.times.is_known:
            return most
        room = self.times.rows_within(_SAFETY * self.period_s) - rows
        return int(min(most, max(_LEAST_FILL_ROWS, room)))

    # --------------------------------------------------------------------------------------------------- inside

    def _needs(self, sequence: Sequence[Row], begin_s: float, due_s: float, offered: float) -> list[Change]:
        """Of one whose overlaps are more than this machine could ever do in time, only what it samples: its listener
        will wait for them, but nobody for it."""
        if not sequence.has_known_music or sequence.num_rows * sequence.positions_per_frame > offered:
            return needs(sequence, begin_s, self.period_s)
        return exact_needs(sequence, begin_s, due_s, self.period_s)

    def _pace_s(self, heard: Iterable[Heard[Row]]) -> float:
        """The longest step that lets every next chunk be in time; never below half of real time, since who is late
        already has no need that could be met."""
        return max(self.period_s / 2, min((listener.pace_s(QUANTUM_STEPS) for _, listener in heard), default=inf))

    def _serves_all(self, held: SequenceOf[Sequence[Row]], heard: SequenceOf[Heard[Row]]) -> bool:
        if not heard or not self.times.is_known:
            return True
        step_s = self.times.seconds(sum(each.num_rows for each in held))
        margin = 1.0 if step_s <= self.period_s else _SAFETY
        if step_s <= margin * self._pace_s(heard):
            return True
        return self.real_time_rows < min(each.num_rows for each, _ in heard)

    def _step_size(self, heard: SequenceOf[Heard[Row]]) -> tuple[float, bool]:
        """Rows of the step, and whether they are too few for those in a hurry."""
        pace_s = self._pace_s(heard)
        rows = self.times.rows_within(_SAFETY * pace_s)
        if pace_s >= self.period_s:
            rows = max(rows, self.real_time_rows)
        hurried = sum(each.num_rows for each, listener in heard if self._is_hurried(listener))
        if hurried > rows:
            rows = min(hurried, max(rows, self.real_time_rows))
        return rows, hurried > rows

    def _is_hurried(self, listener: Listener) -> bool:
        """Whether its next chunk would be late if its track paused for a quantum."""
        return listener.slack_s < QUANTUM_STEPS * self.period_s

    def _rank(self, sequence: Sequence[Row], is_short: bool) -> tuple[bool, bool, float]:
        """The smaller, the earlier."""
        listener = sequence.listener
        if listener is None:
            return True, False, 0.0
        if self._is_hurried(listener):
            return False, is_short and not listener.is_playing, listener.slack_s
        return False, is_short, listener.slack_s + _HYSTERESIS_S * (sequence.state is State.PAUSED)

    def _predict(self, heard: SequenceOf[Heard[Row]], chosen: SequenceOf[Sequence[Row]]) -> None:
        step_s, running = self.times.seconds(sum(each.num_rows for each in chosen)), set(chosen)
        self.predicted_underruns = sum(
            listener.pace_s(1) < step_s if each in running else listener.slack_s < 0 for each, listener in heard
        )
        slacks = sorted(listener.slack_s for _, listener in heard)
        self.slack_min_s, self.slack_median_s = (slacks[0], slacks[len(slacks) // 2]) if slacks else (0.0, 0.0)


def _look(held: Iterable[Sequence[Row]], now_s: float) -> list[Heard[Row]]:
    """Those somebody listens to, with how things stand now."""
    heard = [(each, each.listener) for each in held if each.listener is not None]
    for each, listener in heard:
        listener.look(now_s, each.steps_until_chunk + steps_to_put_by(each))
    return heard


def _owed(held: SequenceOf[Sequence[Row]]) -> list[Sequence[Row]]:
    """Who nobody listens to and who has paused for its share's worth: so many at a time that all come round in time,
    and no more, since the listeners wait meanwhile."""
    unheard = [each for each in held if each.listener is None]
    unpaid = sorted(unheard, key=lambda each: -each.unpaid_steps)[: ceil(UNHEARD_SHARE * len(unheard))]
    return [each for each in unpaid if each.unpaid_steps >= _UNPAID_QUANTUM]


def _fill(order: SequenceOf[Sequence[Row]], rows: float, at_least: int) -> set[Sequence[Row]]:
    """Take who fits, in this order; the first ones in any case."""
    taken: set[Sequence[Row]] = set()
    for each in order:
        if each.num_rows <= rows or len(taken) < max(1, at_least):
            taken.add(each)
            rows -= each.num_rows
    return taken
