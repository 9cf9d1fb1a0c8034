"""The start of a replica in a process of its own: its stages are the whole, and a budget that is missed is an error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from api.telemetry.catalogue import metric
from benchmarks import cold_start
from benchmarks.cold_start_report import lines, ratios, summary

START = {
    "stages": {"process": 1.0, "import": 6.0, "decoder": 2.5, "rest": 0.5},
    "whole_s": 10.0,
    "processor_s": 8.0,
    "read_bytes": 5_000_000,
    "first_audio_s": [0.4, 0.2],
    "weights": "mapped",
    "memory": {"resident": 900_000_000, "share": 500_000_000, "private": 300_000_000},
}


def test_a_start_is_measured_from_the_process_to_the_second_track(capfd: pytest.CaptureFixture[str]) -> None:
    cold_start.main(["--model", "tiny", "--repeats", "1", "--threads", "1", "--cold"])
    told = capfd.readouterr().out.splitlines()
    result = json.loads(told[-1])
    stages = result["stages_s"]
    assert list(stages) == [*(metric("tutti_replica_startup_seconds").allowed("stage") or ()), "rest"]
    assert sum(stages.values()) == pytest.approx(result["whole_s"]["median"])
    assert all(seconds >= 0 for seconds in stages.values())
    assert len(result["first_audio_s"]) == 2
    assert min(result["first_audio_s"]) > 0
    assert all(any(name in line for line in told) for name in stages)
    assert result["weights_are"] == "packed by each start"  # tiny is too small to be kept
    assert (
        result["memory_bytes"]["resident"] >= result["memory_bytes"]["share"] >= result["memory_bytes"]["private"] > 0
    )


def test_medians_are_held_against_the_budget() -> None:
    slow = START | {"whole_s": 30.0}
    assert summary([START, START, slow], 10.0)["within_budget"] is True
    assert summary([START, slow, slow], 10.0)["within_budget"] is False
    assert summary([START, slow], 10.0)["whole_s"] == {"median": 20.0, "min": 10.0, "max": 30.0}


def test_bars_follow_one_another() -> None:
    result = summary([START], 9.0) | {"model": "tiny", "weights": "int8", "cold": True, "compile": False}
    told = lines(result)
    bars = [line.split("|")[1] for line in told if "|" in line]
    assert [bar.count("█") for bar in bars] == [4, 24, 10, 2]
    assert [bar.find("█") for bar in bars] == [0, 4, 28, 38]
    assert "not in the page cache" in told[0]
    assert "weights mapped" in told[0]
    assert "ABOVE the budget of 9 s" in told[-3]
    assert told[-1].endswith("900 MB resident, 500 MB with shared pages divided, 300 MB private")


def test_ratios_are_to_the_starts_that_pack_for_themselves() -> None:
    slow = START | {
        "whole_s": 20.0,
        "processor_s": 10.0,
        "memory": {"resident": 2, "share": 1_000_000_000, "private": 1_200_000_000},
    }
    results = [summary([slow], 9.0) | {"cache": "off"}, summary([START], 9.0) | {"cache": "kept"}]
    assert ratios(results) == {
        "kept / off": {"whole": 0.5, "processor": 0.8, "private_memory": 0.25, "share_of_memory": 0.5}
    }


def test_every_size_has_a_budget_and_a_folder_that_of_tiny() -> None:
    budgets = [cold_start._configured(size)[0] for size in (*cold_start.SIZES, "some/folder")]
    assert budgets == [*sorted(budgets[:-1]), budgets[0]]


def test_a_model_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cold_start.main(["--model", str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err
