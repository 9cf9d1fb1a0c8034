"""Requests that arrive over time: drawn from a seed, or from the arrival times of a trace."""

from __future__ import annotations

import bisect
import csv
import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from autoscaling.fairness import Mode

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Request:
    """One track that somebody wants.

    Attributes:
        arrival_s: seconds since the beginning.
        audio_s: its length.
        stays_s: seconds after its arrival at which its client leaves, if it is not done by then.
    """

    id: int
    arrival_s: float
    model: str
    tier: str
    tenant: str
    mode: Mode
    audio_s: float
    stays_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Mix:
    """Of what the requests are. Weights need not add up to 1.

    Attributes:
        models, tiers: name → weight.
        durations_s: seconds of audio → weight.
        tenants: tier → how many accounts.
        skew: the k-th account of a tier asks ``k ** -skew`` times as often as the first; 0: all alike, 1: Zipf's law.
        streamed: fraction that is listened to while it is made.
        leaving: fraction whose client leaves before its end, after a time that is drawn (exponential).
        stays_s: mean of that.
    """

    models: Mapping[str, float]
    tiers: Mapping[str, float] = field(default_factory=lambda: {"free": 0.6, "pro": 0.3, "enterprise": 0.1})
    durations_s: Mapping[float, float] = field(default_factory=lambda: {5.0: 0.2, 10.0: 0.4, 20.0: 0.2, 30.0: 0.2})
    tenants: Mapping[str, int] = field(default_factory=lambda: {"free": 20_000, "pro": 2_000, "enterprise": 50})
    skew: float = 0.0
    streamed: float = 0.7
    leaving: float = 0.0
    stays_s: float = 5.0

    @property
    def mean_audio_s(self) -> float:
        """Seconds of audio of one request."""
        weighed = sum(audio_s * weight for audio_s, weight in self.durations_s.items())
        return weighed / sum(self.durations_s.values())

    def requests(self, arrivals: Sequence[float], seed: int = 0) -> list[Request]:
        """One request for each arrival time (ascending, seconds)."""
        rng, patience = random.Random(seed), random.Random(~seed)
        model, tier, audio_s = (_draw(rng, each) for each in (self.models, self.tiers, self.durations_s))
        names = {name: [f"{name}-{index}" for index in range(number)] for name, number in self.tenants.items()}
        tenant = {
            name: _draw(rng, {each: (1 + k) ** -self.skew for k, each in enumerate(accounts)})
            for name, accounts in names.items()
        }
        made = []
        for index, at in enumerate(arrivals):
            of = tier()
            mode: Mode = "stream" if rng.random() < self.streamed else "async"
            leaves = patience.random() < self.leaving
            stays_s = patience.expovariate(1 / self.stays_s) if leaves else math.inf
            made.append(Request(index, at, model(), of, tenant[of](), mode, audio_s(), stays_s))
        return made


def _draw(rng: random.Random, weights: Mapping[_T, float]) -> Callable[[], _T]:
    """A function that draws one of the keys."""
    keys = list(weights)
    sums = list(itertools.accumulate(weights.values()))
    return lambda: keys[bisect.bisect(sums, rng.random() * sums[-1], hi=len(keys) - 1)]


def poisson(rate: float, duration_s: float, seed: int = 0) -> list[float]:
    """Arrival times (s) of independent requests, ``rate`` a second on average."""
    return list(thinned(lambda _: rate, rate, duration_s, seed))


def thinned(rate: Callable[[float], float], peak: float, duration_s: float, seed: int = 0) -> Iterator[float]:
    """Arrival times of a rate that changes (Lewis and Shedler, Naval Research Logistics 26, 1979).

    Args:
        rate: at a time (s), requests per second; never above ``peak``.
    """
    rng = random.Random(seed)
    now = 0.0
    while (now := now + rng.expovariate(peak)) < duration_s:
        if rng.random() * peak < rate(now):
            yield now


@dataclass(frozen=True, slots=True)
class Diurnal:
    """A day: a sine with a flash crowd now and then.

    Attributes:
        mean: requests per second.
        swing: of the sine, as a fraction of the mean.
        period_s: of one day; shorter ones make a day's shape cheaper to simulate and harder to follow.
        crowds: times (s) at which the rate is multiplied by ``crowd`` for ``crowd_s`` seconds.
    """

    mean: float
    swing: float = 0.7
    period_s: float = 86_400.0
    crowds: tuple[float, ...] = ()
    crowd: float = 3.0
    crowd_s: float = 120.0

    @classmethod
    def with_crowds(cls, mean: float, period_s: float, crowd: float = 3.0) -> Diurnal:
        """One day with five crowds, evenly spread over it."""
        crowds = tuple(period_s * part / 10 + 1000 for part in range(1, 10, 2))
        return cls(mean, period_s=period_s, crowds=crowds, crowd=crowd)

    def rate(self, now: float) -> float:
        sine = self.mean * (1 - self.swing * math.cos(2 * math.pi * now / self.period_s))
        crowded = any(0 <= now - at < self.crowd_s for at in self.crowds)
        return sine * (self.crowd if crowded else 1.0)

    def arrivals(self, duration_s: float, seed: int = 0) -> list[float]:
        peak = self.mean * (1 + self.swing) * (self.crowd if self.crowds else 1.0)
        return list(thinned(self.rate, peak, duration_s, seed))


def read_trace(path: Path, scale: float = 1.0) -> list[float]:
    """Arrival times of a CSV file with a column ``arrival_s``, ascending.

    Args:
        scale: of the rate; 2 lets everything come in half the time.

    Raises:
        ValueError: no such column, not a number, or not ascending; says in which line.
    """
    times: list[float] = []
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if "arrival_s" not in (rows.fieldnames or ()):
            raise ValueError(f"{path} has no column arrival_s (seconds since the first request)")
        for row in rows:
            try:
                at = float(row["arrival_s"]) / scale
            except (TypeError, ValueError):
                raise ValueError(
                    f"{path}, line {rows.line_num}: arrival_s is no number: {row['arrival_s']!r}"
                ) from None
            if not math.isfinite(at) or (times and at < times[-1]):
                raise ValueError(
                    f"{path}, line {rows.line_num}: arrival times must ascend, got {at} after {times[-1:]}"
                )
            times.append(at)
    if not times:
        raise ValueError(f"{path} has no requests")
    return times
