"""How much work is outstanding and how fast it goes: arithmetic, as lengths are known.

Work is counted in decoder steps, summed over tracks. Workers report how many tracks the replicas make at once
(``slots``) and how many steps they do per second over all of them (``steps_per_s``); the autoscaler says which replicas
start. How long one more would wait follows from it: ``autoscaling.waits``.

What is ahead follows from the order in ``autoscaling.fairness``: of its own account the earlier ones, of its tier's
other accounts what begins on a lower clock (by their mean length), and of other tiers as much as their shares let pass
meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from autoscaling.fairness import TierRule
from autoscaling.starting import Expected

Rules = Mapping[str, TierRule]


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the replicas of one model can do, together.

    Attributes:
        slots: tracks at once.
        steps_per_s: over all of them, when all are taken.
        at_hand: of the slots, those beyond what plays at once.
        per_replica: of the slots, those of each replica; 0: nobody has said so, and starts add none.
    """

    slots: int
    steps_per_s: float
    at_hand: int = 0
    per_replica: int = 0

    def __post_init__(self) -> None:
        if self.slots < 1 or not self.steps_per_s > 0:
            raise ValueError(f"a capacity has at least one slot and a rate above 0, got {self}")

    @property
    def track_steps_per_s(self) -> float:
        """Of one track among as many as there are slots."""
        return self.steps_per_s / self.slots

    def with_more(self, replicas: int) -> Capacity:
        """Of so many replicas more, that are like the others."""
        slots = self.slots + replicas * self.per_replica
        return replace(
            self, slots=slots, steps_per_s=slots * self.track_steps_per_s, at_hand=self.at_hand * slots // self.slots
        )

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
        starting: replicas that will serve beside those that do, the first ones first.
        queued: tier → the sum of its lines.
    """

    capacity: Capacity | None = None
    running: Work = Work()
    lines: Mapping[str, Mapping[str, Line]] = field(default_factory=dict)
    starting: Sequence[Expected] = ()
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


def left(
    capacity: Capacity | None, cost_steps: int, num_tracks: int, started_at: datetime | None, now: datetime
) -> float:
    """Steps left of a generation; all of them where its progress cannot be known."""
    if capacity is None or started_at is None:
        return float(cost_steps)
    return capacity.remaining_steps(cost_steps, num_tracks, (now - started_at).total_seconds())
