"""Arrival processes: seeded, of the rate and unevenness that they promise; traces are read or refused by line."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from benchmarks.arrivals import PROCESSES, TraceError, gamma, on_off, read_trace, replay, unevenness


@pytest.mark.parametrize("name", PROCESSES)
def test_schedules_are_seeded_ascending_and_within_their_time(name: str) -> None:
    process = PROCESSES[name]
    times = process(20, 30, 3)
    assert times == process(20, 30, 3) != process(20, 30, 4)
    assert times == sorted(times)
    assert all(0 <= at < 30 for at in times)


@pytest.mark.parametrize(
    ("name", "cv", "tolerance"),
    [("steady", 0.0, 1e-6), ("poisson", 1.0, 0.05), ("conversation", 1.1, 0.05), ("code", 13.2, 1.5)],
)
def test_rate_and_unevenness_are_as_promised(name: str, cv: float, tolerance: float) -> None:
    found = [unevenness(PROCESSES[name](2.0, 20_000, seed), 20_000) for seed in range(4)]
    assert fmean(each["rate"] or 0.0 for each in found) == pytest.approx(2.0, rel=0.06)
    assert fmean(each["cv"] or 0.0 for each in found) == pytest.approx(cv, abs=tolerance)


def test_a_day_has_a_night_a_noon_and_a_flash_crowd() -> None:
    day = 20_000.0
    times = PROCESSES["diurnal"](2.0, day, 1)

    def rate(begins: float, ends: float) -> float:
        return sum(begins <= at / day < ends for at in times) / (ends - begins) / day

    assert len(times) / day == pytest.approx(2.0, rel=0.05)
    assert rate(0.0, 0.05) < 0.5 * rate(0.45, 0.55)
    assert rate(0.60, 0.61) > 3 * rate(0.59, 0.60)


def test_any_other_unevenness_can_be_had() -> None:
    assert unevenness(gamma(5, 20_000, 1, cv=0.3), 20_000)["cv"] == pytest.approx(0.3, abs=0.02)
    with pytest.raises(ValueError, match="use 'gamma' or 'constant'"):
        on_off(5, 10, 1, cv=0.9)


def test_no_arrivals_have_no_figures() -> None:
    assert unevenness([], 10) == {"rate": 0.0, "cv": None, "peak_to_mean": None}


# ------------------------------------------------------------------------------------------------------------- traces


def test_both_kinds_of_traces_are_read(tmp_path: Path) -> None:
    short = tmp_path / "short.csv"
    short.write_text("arrival_s\n10.5\n12.0\n11.0\n")
    assert read_trace(short) == [0.0, 0.5, 1.5]
    full = tmp_path / "full.csv"
    full.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:47.1805901,396,109\n2023-11-16 18:16:46.6805900,1,2\n"
    )
    assert read_trace(full) == pytest.approx([0.0, 0.5000001, 60.0], abs=1e-6)


def test_a_trace_is_stretched_cut_and_begun_anywhere() -> None:
    trace = [0.0, 1.0, 2.0, 3.0, 10.0]  # 0.4 a second
    assert replay(trace, None, 3.0) == [0.0, 1.0, 2.0]
    assert replay(trace, 0.8, 2.0) == [0.0, 0.5, 1.0, 1.5]
    assert replay(trace, 0.2, 5.0) == [0.0, 2.0, 4.0]
    assert replay(trace, None, 2.0, offset_s=2.0) == [0.0, 1.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its first line must name a column"),
        ("when\n1\n", "its first line must name a column"),
        ("arrival_s\n1\nsoon\n", "line 3: 'soon' is neither a number of seconds nor a date"),
        ("arrival_s\n1\nnan\n", "line 3: 'nan' is neither"),
        ("arrival_s,x\n1,2\n", "has 1 arrivals: a trace has at least two"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(text)
    with pytest.raises(TraceError, match=message):
        read_trace(file)
