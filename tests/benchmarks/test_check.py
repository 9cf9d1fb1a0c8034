"""Hot paths are compared in multiples of a calibration of the same run: a slow machine is no slow code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import check
from benchmarks.check import BASELINE, HOT_PATHS, SCHEMA, lines, machine, main, ratios, read_baseline, slower
from benchmarks.compare import NotComparableError

NAMES = list(HOT_PATHS)


def times(factor: float = 1.0, **slow: float) -> dict[str, float]:
    """Of a machine that takes ``factor`` times as long for everything, and as much longer for the n-th hot path."""
    calibrations = {f"bench_calibration.py::test_{name}": 0.001 * factor for name in set(HOT_PATHS.values())}
    paths = {name: 0.002 * factor * slow.get(f"n{index}", 1.0) for index, name in enumerate(NAMES)}
    return calibrations | paths


def test_a_slow_machine_is_no_slow_code() -> None:
    assert ratios(times()) == ratios(times(7.0)) == dict.fromkeys(NAMES, 2.0)


def test_what_is_slower_is_named() -> None:
    before, now = ratios(times()), ratios(times(3.0, n2=1.7, n4=1.5))
    assert slower(before, now, 0.6) == [NAMES[2]]
    assert slower(before, now, 0.4) == [NAMES[2], NAMES[4]]
    told = lines(before, now, 0.6)
    assert [line.endswith("SLOWER") for line in told[1:]] == [name == NAMES[2] for name in NAMES]


def baseline(tmp_path: Path, **changes: Any) -> Path:
    file = tmp_path / "hot.json"
    held = {"schema": SCHEMA, "machine": machine(), "ratios": dict.fromkeys(NAMES, 2.0), **changes}
    file.write_text(json.dumps(held))
    return file


def test_a_suspect_is_measured_again_and_its_best_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []

    def measured(answers: list[dict[str, float]]) -> int:
        asked.clear()

        def measure(names: Any) -> dict[str, float]:
            asked.append(list(names))
            return {name: value for name, value in answers.pop(0).items() if name in asked[-1] or "calibration" in name}

        monkeypatch.setattr(check, "measure", measure)
        return main(["--baseline", str(baseline(tmp_path))])

    assert measured([times(n0=2.0), times()]) == 0
    assert asked == [NAMES, NAMES[:1]]
    assert measured([times(n0=2.0), times(n0=1.9)]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["slower"] == NAMES[:1]
    assert measured([times()]) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"machine": {"capability": "abacus"}}, "is of {'capability': 'abacus'}, this machine is"),
        ({"schema": 0}, "write one with"),
        ({"ratios": {}}, "has no bench_"),
        ({"ratios": None}, "is no baseline of hot paths"),
    ],
)
def test_what_is_no_baseline_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(NotComparableError, match=message):
        read_baseline(baseline(tmp_path, **changes))


def test_without_a_baseline_nothing_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--baseline", str(tmp_path / "none.json")]) == 2
    assert "Cannot compare" in capsys.readouterr().err


def test_benchmarks_that_do_not_run_are_told() -> None:
    with pytest.raises(NotComparableError, match="do not run"):
        check.measure(["bench_nothing.py"])


def test_the_committed_baseline_knows_every_hot_path() -> None:
    held = json.loads(BASELINE.read_text())
    assert set(held["ratios"]) == set(HOT_PATHS)
    assert all(ratio > 0 for ratio in held["ratios"].values())
