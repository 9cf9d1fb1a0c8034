"""GPUs that replicas share, in the simulation; and sizes that share them beside sizes that do not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaling.simulator.__main__ import main
from autoscaling.simulator.gpus import Gpus
from autoscaling.simulator.replica import Profile
from autoscaling.simulator.sharing import SIZES, compare, table


def test_quarters_fill_a_gpu_and_holes_are_filled_before_another_is_taken() -> None:
    gpus = Gpus()
    first = [gpus.take(0.25, 0.0) for _ in range(4)]
    assert len(set(first)) == 1
    half = gpus.take(0.5, 0.0)
    assert (gpus.held, gpus.most) == (2, 2)
    gpus.give(first[0], 0.25, 10.0)
    assert gpus.take(0.25, 10.0) == first[0]  # the fullest with room
    gpus.give(half, 0.5, 20.0)
    assert gpus.held == 1
    gpus.advance(30.0)
    assert gpus.gpu_s == pytest.approx(20 + 30)


def test_what_needs_no_gpu_holds_none() -> None:
    gpus = Gpus()
    gpus.give(gpus.take(0.0, 0.0), 0.0, 5.0)
    assert (gpus.held, gpus.most) == (0, 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.2, 0.25, 0.3, 0.5, 1.0])), max_size=60))
def test_no_gpu_is_overfull_and_those_held_are_those_in_use(steps: list[tuple[bool, float]]) -> None:
    gpus, placed = Gpus(), list[tuple[int, float]]()
    for index, (is_start, share) in enumerate(steps):
        if is_start or not placed:
            placed.append((gpus.take(share, float(index)), share))
        else:
            gpu, gone = placed.pop(index % len(placed))
            gpus.give(gpu, gone, float(index))
        used: dict[int, float] = {}
        for gpu, each in placed:
            used[gpu] = used.get(gpu, 0.0) + each
        assert all(level <= 1 + 1e-9 for level in used.values())
        assert gpus.held == len(used)
        assert all(gpus.level(gpu) == pytest.approx(level) for gpu, level in used.items())


def test_a_share_outside_a_gpu_is_refused() -> None:
    with pytest.raises(ValueError, match="share of one GPU"):
        Profile(8, 0.001, 0.0001, gpu=2.0)


def test_a_share_is_never_faster_than_its_part_of_the_gpu() -> None:
    for size in SIZES.values():
        whole, part = size.profile(1.0, 0.1), size.profile(0.25, 0.1)
        assert part.rate(1) <= 0.9 * 0.25 * whole.rate(1) + 1e-9
        assert 4 * part.capacity < whole.capacity
        assert part.rate(part.streams) >= 1


def test_little_mixed_traffic_needs_fewer_gpus_when_sizes_share_them() -> None:
    alone, shared = compare(0.3, 0.2, 0.1)
    assert alone.gpus >= 4
    assert shared.gpus < 0.7 * alone.gpus
    assert alone.meets
    assert shared.meets
    assert table([(alone, shared)]).count("\n") == 3


def test_the_command_prints_both_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sharing", "0.2", "--hours", "0.1"]) == 0
    *shown, last = capsys.readouterr().out.splitlines()
    assert [row["way"] for row in json.loads(last)["rows"]] == ["one size per GPU", "shared"]
    assert shown[0].startswith("| requests/s")
    assert main(["--replicas", "20", "--requests", "400"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last)["requests"] == pytest.approx(400, rel=0.2)


@pytest.mark.parametrize("arguments", [["--sharing", "0"], ["--sharing", "1", "--loss", "1"], ["--replicas", "-1"]])
def test_what_cannot_be_is_said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "simulator: " in capsys.readouterr().err
