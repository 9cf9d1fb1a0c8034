"""Ratios are compared with a baseline's: what has fallen is named, what can not be compared is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import NotComparableError, comparison, falls, read_baseline


def result(share: float = 0.4, ratio: float = 5.0) -> dict[str, Any]:
    """What is looked at of a run with one workload and two peers, one of them missing."""
    peers = {"transformers-fp32": {"best_ratio": ratio, "wall_s": 9.0}, "audiocraft-bf16": {"missing": "not installed"}}
    return {
        "benchmark": "engine",
        "schema": 2,
        "model": {"parameters": 11, "weights": "int8"},
        "settings": {"duration": 4.0},
        "machine": {"device": "cpu", "capability": "AVX512", "threads": 2},
        "runs": [{"workload": "batch-1", "best_share_of_ceiling": share, "wall_s": 1.0, "peers": peers}],
    }


def test_what_is_not_worse_has_not_fallen() -> None:
    baseline = result()
    for now in (result(), result(share=0.9, ratio=50.0), result(share=0.4 * 0.71, ratio=5.0 * 0.71)):
        assert falls(baseline, now, tolerance=0.3) == []


def test_times_do_not_count() -> None:
    slow = result()
    slow["runs"][0]["wall_s"] *= 100
    slow["runs"][0]["peers"]["transformers-fp32"]["wall_s"] *= 100
    assert falls(result(), slow) == []


def test_each_ratio_that_has_fallen_is_named() -> None:
    fallen = falls(result(), result(share=0.2, ratio=3.0), tolerance=0.3)
    assert [(each["ratio"], each["before"], each["now"]) for each in fallen] == [
        ("share of the ceiling", 0.4, 0.2),
        ("ratio to transformers-fp32", 5.0, 3.0),
    ]
    assert falls(result(), result(ratio=3.0), tolerance=0.5) == []
    text = "\n".join(comparison(result(), fallen, 0.3))
    assert "2 of 2 ratios have fallen by more than 30%" in text
    assert "batch-1: ratio to transformers-fp32 was 5, is 3" in text


def test_a_new_peer_or_workload_is_no_matter() -> None:
    more = result()
    more["runs"][0]["peers"]["transformers-bf16"] = {"best_ratio": 0.1}
    more["runs"].append(more["runs"][0] | {"workload": "batch-8"})
    assert falls(result(), more) == []
    assert "2 ratios, none has fallen" in comparison(result(), [])[-1]


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model", "parameters", 12),
        ("model", "weights", "fp32"),
        ("settings", "duration", 5.0),
        ("machine", "capability", "AVX2"),
        ("machine", "threads", 1),
    ],
)
def test_other_things_are_not_compared(section: str, key: str, value: object) -> None:
    other = copy.deepcopy(result())
    other[section][key] = value
    with pytest.raises(NotComparableError, match=f"the baseline's {section}.{key} is .*: nothing to compare"):
        falls(result(), other)


def test_a_ratio_that_is_gone_is_no_success() -> None:
    other = result()
    other["runs"][0]["peers"]["transformers-fp32"] = {"missing": "does not run"}
    with pytest.raises(NotComparableError, match="ratio to transformers-fp32 of batch-1, this run has not"):
        falls(result(), other)


def test_a_file_that_is_no_baseline_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    with pytest.raises(OSError, match=r"baseline\.json"):
        read_baseline(file)
    for text in ("{", json.dumps({"benchmark": "peers", "runs": []})):
        file.write_text(text)
        with pytest.raises(NotComparableError, match="write one with --json"):
            read_baseline(file)
    file.write_text(json.dumps(result()))
    assert read_baseline(file) == result()
