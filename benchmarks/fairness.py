"""``python -m benchmarks.fairness``: what the fair queue keeps of its promises, measured; the last line is JSON.

The queue is the one that serves (``autoscaling.fair_queue``); slots and time are made of arithmetic. "Backlogged" is
who always has something waiting. A track takes as many seconds as it is long. The tests hold the same measures against
the bounds, for accounts, lengths and slots that hypothesis draws.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

from autoscaling.fair_queue import FairQueue
from autoscaling.fairness import Slots, TierRule, Waiting
from autoscaling.simulator.cluster import Cluster
from autoscaling.simulator.replica import Profile
from autoscaling.simulator.rivals import Fixed
from autoscaling.simulator.study import MODEL, OPEN, TIERS
from autoscaling.simulator.workload import Request, poisson

RULES: Mapping[str, TierRule] = {name: tier.rule for name, tier in TIERS.items()}
PROFILE = Profile.from_measured(8, one=10, many=30, many_streams=8)
REPLICAS = 16
TENANTS = 200
UNLIMITED = {"pro": TierRule(1.0, 4.0, 10**6)}
_ROOMY = Slots(10**6, 10**6)
_LENGTHS_S = (5.0, 10.0, 15.0)
_WARM_UP_S = 30.0  # nobody is counted before
_GREEDY = "greedy"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

MakeQueue = Callable[[Mapping[str, TierRule]], FairQueue]


@dataclass(frozen=True, slots=True)
class Demand:
    """One backlogged account.

    Attributes:
        audio_s: seconds of its generations, over and over.
        num_tracks: of each of them.
    """

    account: str
    tier: str
    audio_s: Sequence[float]
    num_tracks: int = 1


@dataclass(frozen=True, slots=True)
class Served:
    """What a run of the queue gave to whom.

    Attributes:
        turns: account and audio-seconds, in the order of service.
        busy: fraction of the slots' time in which a track was made.
    """

    turns: Sequence[tuple[str, float]]
    busy: float

    def totals(self, of: Mapping[str, str]) -> dict[str, float]:
        """Audio-seconds by group.

        Args:
            of: account → its group.
        """
        sums = dict.fromkeys(of.values(), 0.0)
        for account, audio_s in self.turns:
            sums[of[account]] += audio_s
        return sums

    def gap_s(self, one: str, other: str) -> float:
        """The most that one of two accounts got more than the other, between any two instants."""
        ahead = highest = lowest = 0.0
        for account, audio_s in self.turns:
            ahead += audio_s if account == one else -audio_s if account == other else 0.0
            highest, lowest = max(highest, ahead), min(lowest, ahead)
        return highest - lowest


def saturated(
    demands: Iterable[Demand],
    slots: int,
    turns: int,
    rules: Mapping[str, TierRule] = RULES,
    make_queue: MakeQueue = FairQueue,
) -> Served:
    """Let the slots serve so many generations of accounts that never run out of work."""
    queue, numbers = make_queue(rules), itertools.count()
    lines = {each.account: (each, itertools.cycle(each.audio_s)) for each in demands}
    for account in (*lines, *lines):  # two of each wait, so that one does when the other is taken
        _push(queue, lines[account], next(numbers))
    ends: list[tuple[float, int, str, int]] = []
    served: list[tuple[str, float]] = []
    free, now, busy_s = slots, 0.0, 0.0
    while len(served) < turns:
        chosen = queue.pop(Slots(slots, free))
        if chosen is None:
            at, _, account, tracks = heapq.heappop(ends)
            busy_s += (slots - free) * (at - now)
            now, free = at, free + tracks
            queue.finished(account)
            continue
        account, request = chosen
        served.append((account, request.audio_s))
        tracks = min(request.num_tracks, free)
        free -= tracks
        heapq.heappush(ends, (now + request.audio_s / request.num_tracks, next(numbers), account, tracks))
        _push(queue, lines[account], next(numbers))
    return Served(served, busy_s / (slots * now) if now else 1.0)


def _push(queue: FairQueue, line: tuple[Demand, Iterator[float]], number: int) -> None:
    demand, lengths = line
    due = _EPOCH + timedelta(seconds=number)
    audio_s = next(lengths) * demand.num_tracks
    queue.push(demand.account, demand.tier, Waiting(f"{number:09d}", demand.num_tracks, audio_s, "async", due))


def jain(amounts: Iterable[float]) -> float:
    """1: all have the same; 1/n: one has everything (Jain, Chiu and Hawe, DEC-TR-301, 1984)."""
    each = list(amounts)
    return sum(each) ** 2 / (len(each) * sum(amount**2 for amount in each))


def share_error(served: Served, demands: Sequence[Demand], rules: Mapping[str, TierRule] = RULES) -> float:
    """The most by which a tier missed its share, as a fraction of the share; all tiers must be backlogged."""
    got = served.totals({each.account: each.tier for each in demands})
    total = sum(got.values())
    return max(abs(audio_s / total / rules[tier].share - 1) for tier, audio_s in got.items())


def first_audio_p95_s(seed: int, times: float, *, duration_s: float = 150.0, load: float = 0.7) -> float:
    """Seconds until 95 % of the listeners of the other accounts hear something, on 16 replicas.

    Nobody is refused at the door, where the API would turn the greedy one away: its whole line stands in the queue.

    Args:
        times: one of 200 accounts asks for so many times its share; everybody else's requests stay the same.
        load: of the replicas, with everybody at his share.
    """
    rate = load * REPLICAS * PROFILE.capacity / statistics.fmean(_LENGTHS_S)
    others = _requests(poisson(rate * (TENANTS - 1) / TENANTS, duration_s, seed), seed)
    greedy = _requests(poisson(times * rate / TENANTS, duration_s, seed + 1), seed + 1, _GREEDY)
    arriving = sorted([*others, *greedy], key=lambda each: each.arrival_s)
    requests = [replace(each, id=number) for number, each in enumerate(arriving)]
    outcome = Cluster({MODEL: PROFILE}, OPEN, Fixed({MODEL: REPLICAS}), {MODEL: REPLICAS}).run(requests, duration_s)
    waits = [job.heard_s - job.request.arrival_s for job in outcome.jobs if job.heard_s and _counts(job.request)]
    return sorted(waits)[math.ceil(0.95 * len(waits)) - 1]


def _requests(arrivals: Iterable[float], seed: int, account: str | None = None) -> Iterator[Request]:
    rng = random.Random(seed)
    for at in arrivals:
        name = account or f"account-{rng.randrange(TENANTS - 1)}"
        yield Request(0, at, MODEL, "pro", name, "stream", rng.choice(_LENGTHS_S))


def _counts(request: Request) -> bool:
    return request.tenant != _GREEDY and request.arrival_s >= _WARM_UP_S


def decision_s(tenants: int, decisions: int, make_queue: MakeQueue = FairQueue) -> float:
    """Seconds that one decision takes, by this machine's clock: one is taken, one ends, one more waits."""
    queue, rng = make_queue(RULES), random.Random(0)
    tiers = list(RULES)
    lines = [
        (Demand(f"account-{index}", tiers[index % 3], ()), itertools.cycle([rng.uniform(5, 30) for _ in range(7)]))
        for index in range(tenants)
    ]
    by_name = {line[0].account: line for line in lines}
    for number, line in enumerate(lines):
        _push(queue, line, number)
    began = time.perf_counter()
    for number in range(decisions):
        chosen = queue.pop(_ROOMY)
        assert chosen is not None, "everybody waits"
        queue.finished(chosen[0])
        _push(queue, by_name[chosen[0]], tenants + number)
    return (time.perf_counter() - began) / decisions


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    promise: str
    bound: str
    measured: float
    kept: bool


def figures(seed: int) -> Iterator[Figure]:
    """All of them, one after the other."""
    rng = random.Random(seed)
    accounts = [
        Demand(f"account-{index}", "pro", [rng.uniform(2, 30) for _ in range(20)], rng.randint(1, 4))
        for index in range(20)
    ]
    longest_s = max(max(each.audio_s) * each.num_tracks for each in accounts)
    served = saturated(accounts, 16, 20_000, UNLIMITED)
    gap = max(served.gap_s(one.account, two.account) for one, two in itertools.combinations(accounts, 2))
    yield Figure("service gap of two backlogged accounts, in longest generations", "≤ 2", gap / longest_s,
                 gap <= 2 * longest_s)  # fmt: skip
    got = served.totals({each.account: each.account for each in accounts})
    fairness = jain(got.values())
    yield Figure("Jain's index of 20 backlogged accounts of all lengths", "≥ 0.98", fairness, fairness >= 0.98)

    demands = [
        Demand(f"{tier}-{index}", tier, [rng.uniform(2, 30) for _ in range(20)])
        for tier in RULES
        for index in range(16)
    ]
    served = saturated(demands, 32, 20_000)
    error = share_error(served, demands)
    yield Figure("error of the tiers' shares, slots left free included", "≤ 0.05", error, error <= 0.05)
    yield Figure("slots in use while work waits", "≥ 0.99", served.busy, served.busy >= 0.99)

    moved = max(first_audio_p95_s(each, 20) / first_audio_p95_s(each, 1) for each in range(seed, seed + 5)) - 1
    yield Figure("first audio (p95) of the others, moved by an account at 20 times its share", "≤ 0.10", moved,
                 moved <= 0.10)  # fmt: skip
    took_us = 1e6 * min(decision_s(1000, 5000) for _ in range(5))
    yield Figure("microseconds for a decision among 1,000 accounts", "≤ 50", took_us, took_us <= 50)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; exits with 1 if a promise is not kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    found = list(figures(parser.parse_args(argv).seed))
    print("| promise | bound | measured |\n|---|---|---|")
    for each in found:
        print(f"| {each.promise} | {each.bound} | {each.measured:.3f}{'' if each.kept else ' **not kept**'} |")
    print(json.dumps({"study": "fairness", "schema": 1, "figures": [asdict(each) for each in found]}))
    return 0 if all(each.kept for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
