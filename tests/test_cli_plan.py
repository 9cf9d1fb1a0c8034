"""``tutti plan`` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from api.cli import main

TINY = Path(__file__).parents[1] / "benchmarks" / "results" / "tiny-int8.json"
SMALL_DAY = ["plan", "--traffic", "poisson:2", "--hours", "0.1"]


def test_a_plan_from_measured_profiles(capsys: pytest.CaptureFixture[str]) -> None:
    code = main([*SMALL_DAY, "--profile", f"tiny={TINY}", "--price", "3", "--json"])
    assert code == 0
    answer = json.loads(capsys.readouterr().out)
    fixed, demand = answer["options"]
    # 2 requests of 15 s on average, and one replica makes 72 times real time.
    assert fixed["replicas"] == {"tiny": [1, 1]}
    assert fixed["meets"]
    assert fixed["cost"] == pytest.approx(3 * fixed["report"]["gpu_hours"])
    assert set(demand["report"]["tiers"]) == {"enterprise", "pro", "free"}
    assert answer["best"] in {"fixed", "demand"}


def test_a_table_with_other_cold_starts_and_two_sizes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s\n" + "\n".join(str(0.3 * index) for index in range(400)))
    sizes = ["--profile", "small=10,30,8", "--profile", "large=4,12,4", "--share", "small=0.7", "--share", "large=0.3"]
    others = ["--gpu", "small=0.5", "--what-if", "5", "--what-if", "120"]
    code = main(["plan", "--traffic", str(trace), *sizes, *others])
    assert code == 0
    shown = capsys.readouterr().out
    for expected in ("400 requests", "fixed", "120 s", "Advice: "):
        assert expected in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "small=10,30"], "ONE,MANY,STREAMS"),
        (["--profile", "small"], "MODEL=VALUE"),
        (["--profile", "small=10,30,8", "--gpu", "small=x"], "a number is wanted"),
        (["--profile", "small=10,30,8", "--gpu", "small=-1"], "above 0"),
        (["--profile", "small=10,30,8", "--share", "large=1"], "no profile says how fast large is"),
        (["--profile", "small=10,30,64"], "every listener would stall"),
        (["--profile", "small=10,30,8", "--traffic", "sine:3"], "poisson:RATE or day:RATE"),
        (["--profile", "small=10,30,8", "--traffic", "nowhere.csv"], "or a CSV file"),
        (["--profile", "small=10,30,8", "--traffic", "poisson:0"], "above 0"),
    ],
)
def test_what_cannot_be_planned_is_said_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL_DAY, *arguments]) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.count("\n") == 1


def test_a_page_with_charts_that_needs_nothing_from_elsewhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    html = tmp_path / "plan.html"
    sizes = ["--profile", "small=10,30,8", "--profile", "<b>=4,12,4", "--gpu", "small=0.5", "--price", "2"]
    assert main([*SMALL_DAY, *sizes, "--what-if", "120", "--html", str(html)]) == 0
    page = html.read_text()
    assert page.count("<svg") == 4
    for expected in ("Replicas", "Asked for", "GPUs held", "First audio in time", "policy, starts in 120 s", "kept"):
        assert expected in page
    assert "&lt;b&gt;" in page
    assert "<b>=" not in page
    for foreign in ("http://", "https://", "<script", "@import", "url("):
        assert foreign not in page
    assert "NaN" not in page


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_simulated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*SMALL_DAY, "--profile", "small=10,30,8", "--html", "/nowhere/plan.html"]) == 2
    assert "there is no folder /nowhere" in capsys.readouterr().err
