"""Intervals hold what they say they hold; verdicts are not given where the sample can not carry them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.serve_load.statistics import Share, needed, quantile, quantile_interval, summary, worst


@given(st.integers(0, 400), st.integers(0, 400))
def test_wilson_holds_the_share_and_stays_within_bounds(good: int, bad: int) -> None:
    share = Share(good, good + bad)
    low, high = share.interval
    assert 0 <= low <= (share.value if share.value is not None else 0.5) <= high <= 1


def test_wilson_as_published() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998), table I.
    for good, total, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        assert Share(good, total).interval == pytest.approx((low, high), abs=5e-5)


def test_verdicts() -> None:
    assert Share(1000, 1000).verdict(0.99) == "pass"
    assert Share(900, 1000).verdict(0.99) == "fail"
    assert Share(100, 100).verdict(0.99) == "unresolved"
    assert Share(0, 0).verdict(0.99) == "unresolved"
    assert worst(["pass", "fail", "unresolved"]) == "fail"
    assert worst(["pass", "unresolved"]) == worst([]) == "unresolved"
    assert worst(["pass", "pass"]) == "pass"


@pytest.mark.parametrize("objective", [0.5, 0.9, 0.95, 0.99, 0.995, 0.999])
def test_needed_is_the_least_that_passes(objective: float) -> None:
    count = needed(objective)
    assert Share(count, count).verdict(objective) == "pass"
    assert Share(count - 1, count - 1).verdict(objective) == "unresolved"


@given(st.lists(st.floats(0, 100), min_size=1, max_size=300), st.floats(0.01, 0.99))
def test_quantiles_are_measured_values_at_their_rank(values: list[float], q: float) -> None:
    ordered = sorted(values)
    found = quantile(ordered, q)
    assert sum(value <= found for value in ordered) >= q * len(ordered) - 1e-6
    assert sum(value < found for value in ordered) < q * len(ordered) + 1e-6
    low, high = quantile_interval(ordered, q)
    assert low is None or low <= found
    assert high is None or high >= found


def test_the_interval_of_a_quantile_covers_it() -> None:
    rng, covered = random.Random(4), 0
    for _ in range(400):
        low, high = quantile_interval(sorted(rng.random() for _ in range(150)), 0.9)
        covered += (low is None or low <= 0.9) and (high is None or high >= 0.9)
    assert covered >= 0.93 * 400


def test_a_small_sample_bounds_no_high_quantile() -> None:
    found = summary([float(value) for value in range(100)])
    assert found is not None
    assert (found["p50"], found["p99"], found["min"], found["max"]) == (49.0, 98.0, 0.0, 99.0)
    assert found["p99_interval"][1] is None
    assert found["p50_interval"] == [39.0, 60.0]
    assert summary([]) is None
