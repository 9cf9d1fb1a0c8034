"""The table of the study, small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoscaling.simulator.__main__ import main
from autoscaling.simulator.replica import Profile
from autoscaling.simulator.study import study, table
from autoscaling.simulator.workload import poisson

PROFILE = Profile.from_measured(8, one=10, many=30, many_streams=8)


def test_each_workload_and_cold_start_has_a_line_for_each_policy() -> None:
    rows = list(study({"steady": poisson(3, 300, 1), "other": poisson(1, 200, 2)}, PROFILE, [5, 60]))
    assert [(row.workload, row.cold_start_s, row.policy) for row in rows] == [
        (workload, cold_start_s, policy)
        for workload in ("steady", "other")
        for cold_start_s in (5, 60)
        for policy in ("demand", "Ray, its delays", "Ray, its delays, as good (0.625)", "Ray, its delays and line")
    ]
    steady = rows[0]
    assert steady.meets
    assert steady.report.of_clairvoyant is not None
    lines = table(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert lines[2].startswith(f"| steady | 5 s | demand | {steady.report.gpu_hours:.1f} | ")


def test_a_tuned_rival_is_the_cheapest_that_keeps_the_promises() -> None:
    rows = list(study({"steady": poisson(2, 200, 1)}, PROFILE, [5], grid=True))
    assert rows[-1].policy.startswith("Ray, tuned (")


def test_ray_s_policy_is_also_shown_with_a_service_as_good() -> None:
    """By day one that refuses more is no cheaper way to do the same."""
    crowd = [index / 15 for index in range(450)]  # for half a minute, of five times what is there at the beginning
    calm = [30 + index for index in range(120)]
    demand, stock, as_good, _ = study({"crowd": [*crowd, *calm]}, PROFILE, [15])
    assert stock.report.admitted < demand.report.admitted < 1
    assert as_good.report.admitted >= demand.report.admitted or as_good.policy == "Ray, its delays, as good (0.25)"


def test_the_command_prints_the_table_and_json_last(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s\n" + "\n".join(str(index / 2) for index in range(200)))
    assert main(["--hours", "0", "--poisson", "0.05", "--trace", f"mine={trace}", "--cold-start", "10"]) == 0
    *shown, last = capsys.readouterr().out.splitlines()
    assert any(line.startswith("| mine | 10 s | demand |") for line in shown)
    rows = json.loads(last)["rows"]
    assert {row["workload"] for row in rows} == {"Poisson", "mine"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hours", "0"], "nothing to simulate"),
        (["--hours", "0", "--trace", "no-name.csv"], "NAME=CSV"),
        (["--hours", "0", "--trace", "a=/nowhere.csv"], "nowhere.csv"),
        (["--one", "50", "--many", "30"], "fit no replica"),
    ],
)
def test_what_cannot_be_simulated_is_said(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
