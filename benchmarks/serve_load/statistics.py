"""What a sample says, and how surely: exact quantiles, their intervals, shares with Wilson's, and verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from scipy.special import bdtr, bdtrik

Verdict = Literal["pass", "fail", "unresolved"]
CONFIDENCE = 0.95
_Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)


@dataclass(frozen=True, slots=True)
class Share:
    """So many good ones of so many, with Wilson's interval for the share behind it.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927): honest at 0 and 1,
    where the usual interval has no width.
    """

    good: int
    total: int

    @property
    def value(self) -> float | None:
        return self.good / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float]:
        """At 95 %; all of [0, 1] of nothing."""
        if not self.total:
            return 0.0, 1.0
        n, p, z2 = self.total, self.good / self.total, _Z * _Z
        middle, width = p + z2 / (2 * n), _Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        low, high = (middle - width) / (1 + z2 / n), (middle + width) / (1 + z2 / n)
        return (0.0 if self.good == 0 else max(0.0, low)), (1.0 if self.good == n else min(1.0, high))

    def verdict(self, objective: float) -> Verdict:
        """Whether the share behind the sample meets the objective; unresolved where the interval holds it."""
        low, high = self.interval
        return "pass" if low >= objective else "fail" if high < objective else "unresolved"

    def as_dict(self) -> dict[str, Any]:
        low, high = self.interval
        value = None if self.value is None else round(self.value, 6)
        return {"good": self.good, "total": self.total, "share": value, "interval": [round(low, 6), round(high, 6)]}


def needed(objective: float) -> int:
    """How many events, all of them good, it takes to pass an objective."""
    # With all good Wilson's lower end is n / (n + z²).
    return math.ceil(objective * _Z * _Z / (1 - objective) - 1e-9)


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Of several objectives together: fail if one fails, pass if all do; nothing to judge by is unresolved."""
    if "fail" in verdicts:
        return "fail"
    return "pass" if verdicts and set(verdicts) == {"pass"} else "unresolved"


def quantile(ordered: Sequence[float], q: float) -> float:
    """The smallest value that at least a share ``q`` of the sample does not exceed: always one that was measured."""
    return ordered[max(0, math.ceil(q * len(ordered) - 1e-9) - 1)]


def quantile_interval(ordered: Sequence[float], q: float) -> tuple[float | None, float | None]:
    """Interval of at least 95 % for a quantile, from order statistics: no assumption on the distribution.

    The rank of the true quantile is binomial (David & Nagaraja, "Order Statistics", 2003, 7.1). None: the sample is
    too small to bound it on that side.
    """
    n, tail = len(ordered), (1 - CONFIDENCE) / 2
    below, above = _binomial_quantile(tail, n, q) - 1, _binomial_quantile(1 - tail, n, q)
    return (ordered[below] if below >= 0 else None), (ordered[above] if above < n else None)


def _binomial_quantile(share: float, n: int, p: float) -> int:
    """The smallest k with P(X <= k) >= share."""
    k: int = max(0, math.floor(bdtrik(share, n, p)))  # an inverse in the reals, so near that one step decides
    while k > 0 and bdtr(k - 1, n, p) >= share:
        k -= 1
    while bdtr(k, n, p) < share:
        k += 1
    return k


def summary(values: Sequence[float]) -> dict[str, Any] | None:
    """p50, p95 and p99 with their intervals, the smallest and the largest; None of nothing. Nothing is binned."""
    if not values:
        return None
    ordered = sorted(values)
    found: dict[str, Any] = {"count": len(ordered), "min": round(ordered[0], 6), "max": round(ordered[-1], 6)}
    for name, q in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99)):
        ends = quantile_interval(ordered, q)
        found[name] = round(quantile(ordered, q), 6)
        found[f"{name}_interval"] = [None if end is None else round(end, 6) for end in ends]
    return found
