"""The line through measured step times: right where there is one, unmoved by accidents."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.engine.step_times import StepTimes


def learnt(level: float, slope: float, rows: list[int], noise: float = 0.0) -> StepTimes:
    chance, times = random.Random(0), StepTimes()
    for each in rows:
        times.observe(each, (level + slope * each) * (1 + noise * chance.uniform(-1, 1)))
    return times


@given(
    level=st.floats(1e-4, 0.1),
    slope=st.floats(1e-5, 0.01),
    rows=st.lists(st.integers(1, 64), min_size=2, max_size=6, unique=True),
)
def test_a_line_is_found(level: float, slope: float, rows: list[int]) -> None:
    times = learnt(level, slope, rows * 100)
    for each in (1, 2, 16, 64):
        expected = level + slope * each
        assert times.seconds(each) == pytest.approx(expected, rel=0.02, abs=0.02 * slope * 64)


def test_nothing_is_guessed_before_it_was_measured() -> None:
    times = learnt(0.01, 0.001, [2] * 8)
    assert not times.is_known, "the first steps of a process are no measure"
    assert times.seconds(16) == 0
    times = learnt(0.01, 0.001, [2] * 100)
    assert times.seconds(16) == pytest.approx(0.012), "more rows are taken to cost nothing until they were tried"
    assert times.rows_within(0.02) == math.inf
    assert times.rows_within(0.01) == 0


def test_rows_within_is_the_largest_step_that_is_short_enough() -> None:
    times = learnt(0.008, 0.000375, [2, 8, 32, 40] * 100)
    assert times.rows_within(0.02001) == 32
    assert times.seconds(32) <= 0.02001 < times.seconds(33)
    assert times.rows_within(0.001) == 0


def test_accidents_of_the_machine_hardly_count() -> None:
    times = learnt(0.008, 0.000375, [8, 16, 24, 32] * 200, noise=0.1)
    before = times.seconds(32)
    times.observe(32, 30.0)
    assert times.seconds(32) < 1.1 * before
    assert learnt(0.008, 0.000375, [16] * 600, noise=0.1).seconds(16) == pytest.approx(0.014, rel=0.02)


def test_a_machine_that_became_slower_is_noticed() -> None:
    times = learnt(0.005, 0.0005, [8, 16] * 400)
    for each in [8, 16] * 1000:
        times.observe(each, 2 * (0.005 + 0.0005 * each))
    assert times.seconds(16) == pytest.approx(0.026, rel=0.05)


def test_the_slope_stays_while_the_rows_do() -> None:
    times = learnt(0.008, 0.000375, [8, 16, 24, 32] * 200)
    for _ in range(5000):
        times.observe(16, 0.014)
    assert times.seconds(32) == pytest.approx(0.02, rel=0.05)
