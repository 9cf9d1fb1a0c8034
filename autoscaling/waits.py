"""How long one more generation would wait, and when it is done: the door's arithmetic.

Per model

    wait  = (steps left of what runs + steps ahead in the line) / steps per second
    run   = steps of one track · slots / steps per second          (its tracks run side by side)
    eta   = wait + run

While fewer wait than run it is known better: each of those that end gives its slot to one of them, so that the k-th in
the line begins when the k-th of those that run ends, or before. So do the slots of replicas that start, from when they
are expected to serve: with the first so many of them it begins when they are there, or when it would if they had been
there all the time, whichever is later; and it does not wait for more of them than bring it forward.

Who comes later may still come first, as far as the queue's order allows: tiers with larger shares are taken to go on
having as many tracks made as they have now, and what is left, or the tier's share if that is more, is its part.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass

from autoscaling.backlog import Capacity, ModelBacklog, Rules, Work, ahead_of

SPREAD = 2.0
"""Standard deviations of whom larger tiers send first, that a listener's wait is taken to be longer than expected.

Under overload the line is as long as may be let in. Of those let in by the expected wait alone every seventh of the
free tier waited for longer than was promised, and every twentieth of pro. As many are let in with it: what is made is
the same.
"""


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
    place = _Place(tier, own, ahead_of(tier, own, backlog, rules), num_tracks, spread)
    wait, more = _wait_s(place, backlog, rules, backlog.capacity), 0
    for start in backlog.starting if backlog.capacity.per_replica else ():
        if wait <= start.in_s:
            break
        more += start.replicas
        wait = min(wait, max(start.in_s, _wait_s(place, backlog, rules, backlog.capacity.with_more(more))))
    return wait


@dataclass(frozen=True, slots=True)
class _Place:
    """Of a generation, in the line; see ``wait_s``."""

    tier: str
    own: Work
    ahead: Work
    num_tracks: int
    spread: float


def _wait_s(place: _Place, backlog: ModelBacklog, rules: Rules, capacity: Capacity) -> float:
    """As ``wait_s``, if there were as many slots already; what replicas make counts from when they serve."""
    own, ahead, running = place.own, place.ahead, backlog.running
    free = capacity.slots - running.tracks
    kept = rules[place.tier].kept(capacity.slots, capacity.at_hand)
    mine = min(place.num_tracks + kept, capacity.slots)
    must_end = ahead.tracks + mine - free
    if must_end <= 0:
        return 0.0
    part = part_of(place.tier, capacity, running, rules)
    if part == 1 or not running.ends_s:
        in_sum_s = _made_s(running.steps + ahead.steps, backlog)
        return min(in_sum_s, running.ends_s[must_end - 1]) if must_end <= len(running.ends_s) else in_sum_s
    must_end = max(must_end, _must_end(own.tracks + mine - free, part, place.spread))
    if must_end <= len(running.ends_s):
        return running.ends_s[must_end - 1]
    # Of those that run half is left on average.
    each_steps = own.steps / own.tracks if own.tracks else 2 * running.steps / running.tracks
    return _made_s((must_end - len(running.ends_s)) * each_steps, backlog, running.ends_s[-1])


def _made_s(steps: float, backlog: ModelBacklog, since_s: float = 0.0) -> float:
    """Seconds until so many steps are made, if ``since_s`` the replicas do nothing else."""
    assert backlog.capacity is not None, "the rate is known"
    rate, now_s = backlog.capacity.steps_per_s, since_s
    for start in backlog.starting:
        if now_s + steps / rate <= start.in_s:
            break
        steps -= rate * max(0.0, start.in_s - now_s)
        now_s = max(now_s, start.in_s)
        rate += start.replicas * backlog.capacity.per_replica * backlog.capacity.track_steps_per_s
    return now_s + steps / rate


def _must_end(mine: int, part: float, spread: float) -> int:
    """Tracks that end until so many of their slots have come to a tier that each comes to with probability ``part``.

    Others may be lucky first: the number has the negative binomial distribution. So many standard deviations are added.
    """
    return math.ceil((mine + spread * math.sqrt(max(0, mine) * (1 - part))) / part)


def part_of(tier: str, capacity: Capacity, running: Work, rules: Rules) -> float:
    """The fraction of the slots that come free for a tier, while those with larger shares hold what they hold now."""
    share = rules[tier].share
    above = sum(tracks for name, tracks in running.by_tier.items() if name in rules and rules[name].share > share)
    return max(share, 1 - above / capacity.slots)


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
