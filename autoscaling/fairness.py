"""Who is next for one model: pure arithmetic on what is known, without SQL and without a clock.

Three levels, from the top:

1. **Tiers.** Each has a guaranteed share of the model's capacity. For every audio-second that anybody gets, each tier
   that waits is owed its share of it. A tier that is owed as much as its next generation has its turn; whoever is owed
   most comes first. While it is nobody's turn, the tiers come strictly in the order of their shares, the largest first:
   whoever waits is at risk, and most so where least waiting was promised. So a tier that waits gets at least
   ``share · total``, less a few generations, whatever the others do: none starves. (Turns by deficit: Shreedhar and
   Varghese, SIGCOMM 1995.)
2. **Accounts of a tier.** Each has a virtual clock: audio-seconds served, divided by the tier's weight. The one that
   stands lowest is next, unless as many of its generations run as its tier allows.
3. **Generations of an account.** Streamed ones first, since somebody listens; then the earliest deadline.

A generation takes one slot per track, all at once. One that is next but does not fit waits for more slots to become
free, and no other takes them from it.

A tier may have to leave some slots free for those above it; it then waits while they go on. It is owed its share
meanwhile, and once that has come to as much as the slots that it leaves would hold, it takes one of them: what is kept
free is there for a burst, and does not undo what is guaranteed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Mode = Literal["async", "stream"]

_ROUNDING = 1e-9  # 0.29 · 100 is a little less than 29


@dataclass(frozen=True, slots=True)
class Waiting:
    """One queued generation."""

    generation_id: str
    num_tracks: int
    audio_s: float
    mode: Mode
    deadline_at: datetime

    @property
    def order(self) -> tuple[bool, datetime, str]:
        return (self.mode != "stream", self.deadline_at, self.generation_id)


@dataclass(frozen=True, slots=True)
class Tenant:
    """One account that waits for the model.

    Attributes:
        virtual_s: its clock.
        running: generations of it that a worker holds, of any model.
        waiting: of its line for this model, at least the first one.
    """

    account_id: str
    tier: str
    virtual_s: float
    running: int
    waiting: Sequence[Waiting]

    @property
    def next(self) -> Waiting:
        return min(self.waiting, key=lambda each: each.order)


@dataclass(frozen=True, slots=True)
class TierRule:
    """What the queue needs to know of a tier.

    Attributes:
        share: of the capacity, guaranteed.
        weight: of its accounts' clocks.
        running: generations of one account at the same time.
        leaves: fraction of the slots that the tier leaves free, so that those above it need not wait for one.
    """

    share: float
    weight: float
    running: int
    leaves: float = 0.0

    def charge_s(self, audio_s: float) -> float:
        """What a generation adds to its account's clock."""
        return audio_s / self.weight

    def reserve(self, slots: int) -> int:
        """So many out of these it leaves free, rounded down."""
        return int(self.leaves * slots + _ROUNDING)

    def kept(self, total: int, at_hand: int) -> int:
        """So many places it leaves free, see ``Slots``."""
        return self.reserve(total - at_hand) + at_hand if self.leaves else 0


@dataclass(frozen=True, slots=True)
class Slots:
    """The model's places on all of its replicas, in tracks.

    Attributes:
        at_hand: of them, beyond what plays at once: a track there begins when another ends. A tier that leaves slots
            free leaves these as well, or who comes next would stand behind it.
    """

    total: int
    free: int
    at_hand: int = 0

    def fit(self, num_tracks: int) -> bool:
        """A generation with more tracks than there are places runs alone."""
        return num_tracks <= self.free or self.free == self.total

    def open_to(self, rule: TierRule, head: Waiting, owed_s: float) -> bool:
        """May this tier's next one have its slots, as soon as there are enough?

        Args:
            owed_s: to the tier, in audio-seconds.
        """
        if not rule.leaves or self.free == self.total:
            return True
        if head.num_tracks + rule.kept(self.total, self.at_hand) <= self.free:
            return True
        return owed_s >= (1 + rule.reserve(self.total - self.at_hand)) * head.audio_s


@dataclass(frozen=True, slots=True)
class Places:
    """What one replica takes.

    Attributes:
        tracks: at once.
        at_hand: of them, beyond what it plays at once.
    """

    tracks: int
    at_hand: int = 0

    def slots(self, replicas: int, most: int, taken: int) -> Slots:
        """Of so many replicas, some taken.

        Args:
            most: tracks, whatever replicas there are.
        """
        total = min(most, replicas * self.tracks)
        return Slots(total, max(0, total - taken), min(total - 1, replicas * self.at_hand))


class Shares:
    """What each tier is owed of one model, in audio-seconds.

    This is one worker's view; as each of them keeps what it leases to it, so do all together.
    """

    def __init__(self, rules: Mapping[str, TierRule]) -> None:
        self.rules = dict(rules)
        self._owed = dict.fromkeys(self.rules, 0.0)
        self._by_size = sorted(self.rules, key=lambda name: -self.rules[name].share)

    def owed(self, tier: str) -> float:
        return self._owed[tier]

    def copy(self) -> Shares:
        other = Shares(self.rules)
        other._owed = dict(self._owed)
        return other

    def order(self, next_s: Mapping[str, float]) -> list[str]:
        """The tiers that wait, the next one first.

        Args:
            next_s: tier that waits → audio-seconds of its next generation, above 0.
        """
        turns = {name: owed for name, audio_s in next_s.items() if (owed := self._owed[name]) >= audio_s}
        return sorted((name for name in self._by_size if name in next_s), key=lambda name: -turns.get(name, 0.0))

    def served(self, tier: str, audio_s: float, waiting: Collection[str]) -> None:
        """A generation of this tier was leased, while these tiers waited, itself among them.

        A tier that does not wait is owed nothing, but what it got ahead of its share it pays back all the same.
        """
        was_owed = self._owed[tier] > 0
        for name, rule in self.rules.items():
            owed = self._owed[name] + rule.share * audio_s
            self._owed[name] = owed if name in waiting else min(0.0, owed)
        if was_owed:
            self._owed[tier] -= audio_s


def choose(tenants: Iterable[Tenant], shares: Shares, slots: Slots) -> tuple[Tenant, Waiting] | None:
    """The next generation and whose it is. None: nobody may be served now, or the next one does not fit yet."""
    by_tier: dict[str, list[Tenant]] = {}
    for tenant in tenants:
        if tenant.tier in shares.rules and tenant.running < shares.rules[tenant.tier].running:
            by_tier.setdefault(tenant.tier, []).append(tenant)
    firsts = {tier: min(each, key=lambda one: (one.virtual_s, one.account_id)) for tier, each in by_tier.items()}
    heads = {tier: tenant.next for tier, tenant in firsts.items()}
    for tier in shares.order({tier: head.audio_s for tier, head in heads.items()}):
        if slots.open_to(shares.rules[tier], heads[tier], shares.owed(tier)):
            return (firsts[tier], heads[tier]) if slots.fit(heads[tier].num_tracks) else None
    return None
