"""Those who were told to come back: what they bring, until the time for which they were told has come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.limits.coming_back import ComingBack
from tests.api.limits.ticking import Ticking


def test_it_is_expected_until_it_is_due() -> None:
    clock = Ticking()
    line = ComingBack(clock)
    assert line.amount == 0.0
    line.add(5.0, after_s=2.0)
    line.add(7.0, after_s=10.0)
    assert line.amount == 12.0
    clock.forward(1.9)
    assert line.amount == 12.0
    clock.forward(1.1)
    assert line.amount == 7.0
    clock.forward(60.0)
    assert line.amount == 0.0


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0.1, 1e6), st.floats(0, 60)), max_size=200))
def test_nothing_is_left_of_sums_and_little_is_kept(steps: list[tuple[float, float, float]]) -> None:
    clock = Ticking()
    line = ComingBack(clock)
    for passed_s, amount, after_s in steps:
        clock.forward(passed_s)
        line.add(amount, after_s)
        assert line.amount >= 0 or line.amount == pytest.approx(0.0, abs=1.0)
        assert len(line._due) <= 62
    clock.forward(100.0)
    assert line.amount == 0.0
