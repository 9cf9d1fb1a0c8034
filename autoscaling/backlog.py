"""How much work is outstanding, how fast it goes, and so how long a generation takes: arithmetic, as lengths are known.

Work is counted in decoder steps, summed over tracks. Workers report how many tracks the replicas make at once
(``slots``) and how many steps they do per second over all of them (``steps_per_s``). So per model

    wait  = (steps left of what runs + steps ahead in the line) / steps per second
    run   = steps of one track · slots / steps per second          (its tracks run side by side)
    eta   = wait + run

While fewer wait than run it is known better: each of those that end gives its slot to one of them, so that the k-th in
the line begins when the k-th of those that run ends, or before.

What is ahead follows from the order in ``autoscaling.fairness``: of its own account the earlier ones, of its tier's
other accounts what begins on a lower clock (by their mean length), and of other tiers as much as their shares let pass
meanwhile. Who comes later may still come first, as far as that order allows: tiers with larger shares are taken to go
on having as many tracks made as they have now, and what is left, or the tier's share if that is more, is its part.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from autoscaling.fairness import TierRule

Rules = Mapping[str, TierRule]
SPREAD = 2.0
"""Standard deviations of whom larger tiers send first, that a listener's wait is taken to be longer than expected.

Under overload the line is as long as may be let in. Of those let in by the expected wait alone every seventh of the
free tier waited for longer than was promised, and every twentieth of pro. As many are let in with it: what is made is
the same.
"""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the replicas of one model can do, together.

    Attributes:
        slots: tracks at once.
        steps_per_s: over all of them, when all are taken.
        at_hand: of the slots, those beyond what plays at once.
    """

    slots: int
    steps_per_s: float
    at_hand: int = 0

    def __post_init__(self) -> None:
        if self.slots < 1 or not self.steps_per_s > 0:
            raise ValueError(f"a capacity has at least one slot and a rate above 0, got {self}")

    @property
    def track_steps_per_s(self) -> float:
        """Of one track among as many as there are slots."""
        return self.steps_per_s / self.slots

    def run_s(self, cost_steps: float, num_tracks: int) -> float:
        """Seconds that a generation takes once it has begun; more tracks than slots take turns."""
        return cost_steps / (self.track_steps_per_s * min(num_tracks, self.slots))

    def remaining_steps(self, cost_steps: float, num_tracks: int, elapsed_s: float) -> float:
        """Steps left of a generation that began ``elapsed_s`` seconds ago, between 0 and all of them."""
        done = max(0.0, elapsed_s) * self.track_steps_per_s * min(num_tracks, self.slots)
        return max(0.0, cost_steps - done)


class Ends(Protocol):
    """Seconds until each of some tracks ends, ascending."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> float: ...


@dataclass(frozen=True, slots=True)
class Work:
    """Some generations, in sum.

    Attributes:
        ends_s: of those that run, seconds until each of their tracks ends, ascending; empty: nobody can say.
        by_tier: of those that run, tracks.
    """

    steps: float = 0.0
    tracks: int = 0
    generations: int = 0
    ends_s: Ends = field(default=(), compare=False)
    by_tier: Mapping[str, int] = field(default_factory=dict, compare=False)

    def __add__(self, other: Work) -> Work:
        return Work(self.steps + other.steps, self.tracks + other.tracks, self.generations + other.generations)


_NOTHING = Work()


@dataclass(frozen=True, slots=True)
class Line:
    """What one account has waiting for one model.

    Attributes:
        virtual_s: the account's clock.
        audio_s: seconds of audio; ``audio_s / weight`` is what its clock will have gained at the end of the line.
    """

    account_id: str
    virtual_s: float
    work: Work
    audio_s: float

    def before(self, clock_s: float, account_id: str, weight: float) -> Work:
        """The part of it that begins before another account whose next one begins at ``clock_s``."""
        gap = (clock_s - self.virtual_s) * weight / (self.audio_s / self.work.generations)
        if gap < 0:
            return _NOTHING
        # Equal clocks go by the account's id.
        first = math.floor(gap) + (gap % 1 > 0 or self.account_id < account_id)
        count = min(first, self.work.generations)
        part = count / self.work.generations
        return Work(self.work.steps * part, round(self.work.tracks * part), count)


@dataclass(frozen=True, slots=True)
class ModelBacklog:
    """One model's outstanding work.

    Attributes:
        capacity: None: no worker that is alive has said how fast it is.
        running: with the steps that are left.
        lines: tier → account → its line.
        queued: tier → the sum of its lines.
    """

    capacity: Capacity | None = None
    running: Work = Work()
    lines: Mapping[str, Mapping[str, Line]] = field(default_factory=dict)
    queued: Mapping[str, Work] = field(init=False)

    def __post_init__(self) -> None:
        sums = {tier: sum((line.work for line in lines.values()), Work()) for tier, lines in self.lines.items()}
        object.__setattr__(self, "queued", sums)

    @property
    def waiting(self) -> Work:
        return sum(self.queued.values(), Work())

    def line(self, tier: str, account_id: str) -> Line | None:
        return self.lines.get(tier, {}).get(account_id)


@dataclass(frozen=True, slots=True)
class Backlog:
    """All models' outstanding work at one instant."""

    taken_at: datetime
    models: Mapping[str, ModelBacklog]

    def of(self, model_id: str) -> ModelBacklog:
        return self.models.get(model_id, ModelBacklog())

    def floor_s(self, tier: str) -> float:
        """The lowest clock of the tier's accounts that wait, if any: who comes back from idle starts no lower."""
        clocks = (line.virtual_s for model in self.models.values() for line in model.lines.get(tier, {}).values())
        return min(clocks, default=0.0)


def share_of(tier: str, backlog: ModelBacklog, rules: Rules) -> float:
    """The fraction of the capacity that a tier gets beside the tiers that have work waiting now. In (0, 1].

    Each gets its share, and the largest of them also what is left over.

    Raises:
        KeyError: no such tier. (Lines of tiers that are no longer in the file are not served.)
    """
    busy = [name for name in rules if name == tier or backlog.queued.get(name, Work()).generations > 0]
    largest = max(busy, key=lambda name: rules[name].share)
    return rules[tier].share if tier != largest else 1 - sum(rules[name].share for name in busy if name != tier)


def tier_ahead(tier: str, account_id: str, clock_s: float, backlog: ModelBacklog, rules: Rules) -> Work:
    """What the tier's other accounts have ahead of one whose next generation begins at ``clock_s``."""
    weight = rules[tier].weight
    steps, tracks, count = 0.0, 0, 0  # added up here: a sum of Work makes a value for each line
    for line in backlog.lines.get(tier, {}).values():
        if line.account_id != account_id and (part := line.before(clock_s, account_id, weight)) is not _NOTHING:
            steps, tracks, count = steps + part.steps, tracks + part.tracks, count + part.generations
    return Work(steps, tracks, count)


def ahead_of(tier: str, own: Work, backlog: ModelBacklog, rules: Rules) -> Work:
    """What the model's workers take up before a generation that has ``own`` of its tier's lines ahead of it."""
    others = sum((work for name, work in backlog.queued.items() if name != tier and name in rules), Work())
    # For each unit of its own tier the others advance by as much as their shares say.
    passing = min(others.steps, own.steps * (1 / share_of(tier, backlog, rules) - 1))
    part = passing / others.steps if others.steps > 0 else 0.0
    return own + Work(passing, round(others.tracks * part), round(others.generations * part))


def wait_s(
    tier: str, own: Work, num_tracks: int, backlog: ModelBacklog, rules: Rules, *, spread: float = 0.0
) -> float | None:
    """Seconds until a generation begins that has ``own`` of its tier's lines ahead of it; None: nobody can say.

    0 when there are slots for it, for all before it, and for what its tier leaves free.

    Args:
        spread: 0: as long as is expected, which half of them exceed; otherwise so many standard deviations longer, see
            ``_must_end``.
    """
    if backlog.capacity is None:
        return None
    capacity, running = backlog.capacity, backlog.running
    ahead, part = ahead_of(tier, own, backlog, rules), part_of(tier, backlog, rules)
    free = capacity.slots - running.tracks
    mine = min(num_tracks + rules[tier].kept(capacity.slots, capacity.at_hand), capacity.slots)
    if ahead.tracks + mine <= free:
        return 0.0
    in_sum_s = (running.steps + ahead.steps) / capacity.steps_per_s
    if not running.ends_s:
        return in_sum_s
    if part == 1:
        must_end = ahead.tracks + mine - free
        return min(in_sum_s, running.ends_s[must_end - 1]) if must_end <= len(running.ends_s) else in_sum_s
    must_end = max(ahead.tracks + mine - free, _must_end(own.tracks + mine - free, part, spread))
    if must_end <= len(running.ends_s):
        return running.ends_s[must_end - 1]
    # Of those that run half is left on average.
    each_steps = own.steps / own.tracks if own.tracks else 2 * running.steps / running.tracks
    return running.ends_s[-1] + (must_end - len(running.ends_s)) * each_steps / capacity.steps_per_s


def _must_end(mine: int, part: float, spread: float) -> int:
    """Tracks that end until so many of their slots have come to a tier that each comes to with probability ``part``.

    Others may be lucky first: the number has the negative binomial distribution. So many standard deviations are added.
    """
    return math.ceil((mine + spread * math.sqrt(max(0, mine) * (1 - part))) / part)


def part_of(tier: str, backlog: ModelBacklog, rules: Rules) -> float:
    """The fraction of the slots that come free for a tier, while those with larger shares hold what they hold now."""
    assert backlog.capacity is not None, "slots are known"
    share = rules[tier].share
    above = sum(
        tracks for name, tracks in backlog.running.by_tier.items() if name in rules and rules[name].share > share
    )
    return max(share, 1 - above / backlog.capacity.slots)


def own_wait_s(running_s: Iterable[float], ahead_s: Iterable[float], places: int) -> float:
    """Seconds until an account's next generation may begin, for it has only so many places.

    Args:
        running_s: seconds left of each of its generations that runs.
        ahead_s: seconds that each of its waiting ones will take, in their order.
        places: generations that may run at the same time.
    """
    ends = sorted(running_s)[-places:]
    heapq.heapify(ends)
    for duration_s in [*ahead_s, 0.0]:
        begins = heapq.heappop(ends) if len(ends) >= places else 0.0
        heapq.heappush(ends, begins + duration_s)
    return begins


def left(
    capacity: Capacity | None, cost_steps: int, num_tracks: int, started_at: datetime | None, now: datetime
) -> float:
    """Steps left of a generation; all of them where its progress cannot be known."""
    if capacity is None or started_at is None:
        return float(cost_steps)
    return capacity.remaining_steps(cost_steps, num_tracks, (now - started_at).total_seconds())
