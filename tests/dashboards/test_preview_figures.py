"""Numbers, axes and colours of the preview."""

from __future__ import annotations

import itertools
import math

import pytest

from dashboards.builder.look import Color, Unit, worse_above, worse_below
from dashboards.preview.colors import PALETTE, color_variable, line_colors
from dashboards.preview.figures import color_of, figure, suffix, tick, ticks, time_ticks


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0.0, Unit.SECONDS, "0 s"),
        (0.0125, Unit.SECONDS, "12.5 ms"),
        (0.00002, Unit.SECONDS, "20 µs"),
        (1.5, Unit.SECONDS, "1.5 s"),
        (-0.25, Unit.SECONDS, "−250 ms"),
        (90.0, Unit.SECONDS, "1.5 min"),
        (7200.0, Unit.SECONDS, "2 h"),
        (30.0, Unit.DAYS, "30 d"),
        (250.0, Unit.MILLISECONDS, "250 ms"),
        (0.9987, Unit.RATIO, "99.87 %"),
        (0.5, Unit.RATIO, "50 %"),
        (1.0, Unit.RATIO, "100 %"),
        (12.3456, Unit.PERCENT, "12.3 %"),
        (1234.0, Unit.COUNT, "1.23 k"),
        (2_500_000.0, Unit.COUNT, "2.5 M"),
        (0.0, Unit.COUNT, "0"),
        (3 * 2**30, Unit.BYTES, "3 GiB"),
        (2048.0, Unit.BYTES_PER_SECOND, "2 KiB/s"),
        (12.5, Unit.AUDIO_SECONDS_PER_SECOND, "12.5 audio-s/s"),
        (-3.0, Unit.AUDIO_SECONDS, "−3 audio-s"),
        (math.nan, Unit.COUNT, "–"),
        (math.inf, Unit.SECONDS, "∞"),
        (-math.inf, Unit.SECONDS, "−∞"),
    ],
)
def test_figure(value: float, unit: Unit, said: str) -> None:
    assert figure(value, unit) == said


def test_decimals_are_kept_where_they_are_asked_for() -> None:
    assert figure(0.99, Unit.RATIO, 2) == "99.00 %"
    assert figure(3.0, Unit.COUNT, 0) == "3"
    assert figure(-0.001, Unit.COUNT, 1) == "0.0"  # and not minus nothing


def test_a_long_unit_stands_in_the_head_and_not_at_the_axis() -> None:
    assert suffix(Unit.AUDIO_SECONDS) == "audio-s"
    assert suffix(Unit.SECONDS) == ""
    assert tick(200, Unit.AUDIO_SECONDS) == "200"
    assert tick(0.2, Unit.SECONDS) == "200 ms"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0, 0.93, [0, 0.25, 0.5, 0.75, 1]),
        (-0.4, 1.7, [-1, 0, 1, 2]),
        (0, 40, [0, 10, 20, 30, 40]),
    ],
)
def test_ticks_are_round_and_cover_the_values(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high, 4) == expected


def test_ticks_of_minutes_are_those_of_a_clock() -> None:
    assert ticks(0, 290, 4, Unit.SECONDS) == [0, 120, 240, 360]


def test_times_are_round_and_in_utc() -> None:
    of_minutes = time_ticks(1_700_000_003, 1_700_000_603, 5)
    assert of_minutes[:2] == [(1_700_000_040, "22:14"), (1_700_000_160, "22:16")]
    assert {later - at for (at, _), (later, _) in itertools.pairwise(of_minutes)} == {120}
    assert time_ticks(1_700_000_000, 1_700_000_001, 9) == [(1_700_000_000, "22:13:20"), (1_700_000_001, "22:13:21")]
    assert [label for _, label in time_ticks(0, 4 * 86400, 5)] == ["01 Jan", "02 Jan", "03 Jan", "04 Jan", "05 Jan"]


def test_the_colour_is_that_of_the_threshold_reached() -> None:
    assert [color_of(value, worse_above(1, 2)) for value in (0.5, 1, 1.9, 2)] == ["green", "orange", "orange", "red"]
    assert [color_of(value, worse_below(0.25, 0)) for value in (-1, 0, 0.25)] == ["red", "orange", "green"]
    assert color_of(math.nan, worse_above(1, 2)) == "text"


def test_series_that_mean_something_have_its_colour_and_others_one_of_their_own() -> None:
    names = ["enterprise", "somebody", "completed", "else"]
    colors = line_colors(names)
    assert colors[0] == line_colors(["free", "enterprise"])[1]
    assert colors[2] == "green"
    assert len(set(colors)) == len(names)
    assert len(line_colors([str(index) for index in range(40)])) == 40
    assert set(line_colors([str(index) for index in range(40)])) == set(PALETTE)


def test_a_soft_colour_is_no_text_colour() -> None:
    assert color_variable(Color.SOFT) == "soft"
    assert color_variable(Color.RED) == "red"
