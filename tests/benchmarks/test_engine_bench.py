"""The engine benchmark itself: it compares equal work or nothing, and says what it found in one JSON line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from api.cli import main as tutti
from benchmarks.ceiling import Peaks, floor_s, measure_peaks, work_of
from benchmarks.engine_bench import main
from benchmarks.parity import DifferentWorkError, check_lengths, check_parity
from benchmarks.sides import Made, Transformers, Tutti
from benchmarks.weights import Weights, random_weights, weights_of_folder
from benchmarks.workload import Stream, streams_for
from tests.factories import make_checkpoint

REPOSITORY = Path(__file__).resolve().parents[2]
SHAPE: dict[str, Any] = {"hidden": 32, "layers": 2, "heads": 4, "ffn": 64, "vocab": 64, "filters": 2, "ratios": (4, 2)}
SIDE_FIGURES = {
    "wall_s",
    "cpu_s",
    "steps_per_s",
    "real_time_factor",
    "first_audio_s",
    "last_first_audio_s",
    "share_of_ceiling",
}
RATIOS = {"steps_per_s", "real_time_factor", "first_audio", "last_first_audio", "cpu_s"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), **SHAPE)


@pytest.fixture(scope="module")
def weights(checkpoint: Path) -> Weights:
    torch.set_num_threads(1)
    return weights_of_folder(checkpoint, "cpu")


def sides(weights: Weights, streams: tuple[Stream, ...]) -> tuple[Tutti, Transformers]:
    ours = Tutti(weights.ours("cpu", torch.float32), "cpu", "float32", streams)
    return ours, Transformers(weights.theirs, weights.tokenizer, weights.config)


@dataclass(frozen=True, slots=True)
class Report:
    """One run: the file's JSON, what was printed, and what was imported."""

    written: dict[str, Any]
    printed: str
    imports: str


@pytest.fixture(scope="module")
def report(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """1 s clips, in a process of their own."""
    file = tmp_path_factory.mktemp("report") / "bench.json"
    command = [
        "-X",
        "importtime",
        "-m",
        "benchmarks.engine_bench",
        "--model",
        str(checkpoint),
        "--seconds",
        "1",
        "--streams",
        "3",
    ]
    run = subprocess.run(
        [sys.executable, *command, "--repeats", "2", "--threads", "1", "--json", str(file)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return Report(json.loads(file.read_text()), run.stdout, run.stderr)


def test_the_last_line_is_the_report(report: Report) -> None:
    written, printed = report.written, report.printed
    assert json.loads(printed.splitlines()[-1]) == written
    assert set(written) == {"benchmark", "schema", "model", "settings", "machine", "parity", "runs"}
    assert written["settings"] == {"seconds": 1.0, "streams": 3, "repeats": 2, "seed": 0}
    assert written["machine"]["threads"] == 1
    assert written["parity"]["codes"] > 0


def test_the_ceiling_comes_first(report: Report) -> None:
    printed = report.printed
    assert printed.index("GFLOP/s") < printed.index("all equal") < printed.index("first audio")


def test_both_sides_make_what_is_asked(report: Report) -> None:
    """One stream: the same frames. Several: transformers pads all to the longest, we do not."""
    alone, together = report.written["runs"]
    assert alone["tutti"]["frames"] == alone["transformers"]["frames"] == alone["frames_asked"] == [50]
    assert together["tutti"]["frames"] == together["frames_asked"] == [50, 25, 37]
    assert together["transformers"]["frames"] == [50, 50, 50]
    assert together["audio_s"] == pytest.approx(112 / 50)
    assert alone["tutti"]["rows_per_step"] == 2
    assert together["tutti"]["rows_per_step"] > 3


def test_all_figures_are_positive(report: Report) -> None:
    for run in report.written["runs"]:
        for side in ("tutti", "transformers"):
            assert {key for key in SIDE_FIGURES if run[side][key] > 0} == SIDE_FIGURES
        assert {key for key, value in run["ratio"].items() if value > 0} == RATIOS
        assert min(run["ceiling"].values()) > 0
        assert sum(run["tutti"]["stages"].values()) == pytest.approx(1)
        assert run["tutti"]["first_audio_s"] < run["tutti"]["wall_s"]


def test_it_needs_neither_ray_nor_the_test_tools(report: Report) -> None:
    assert re.search(r"\| +torch$", report.imports, re.MULTILINE)
    assert not re.search(r"\| +(ray|fastapi|pytest|tests)$", report.imports, re.MULTILINE)


@pytest.mark.parametrize("count", [1, 3])
def test_parity_counts_the_codes_it_compared(weights: Weights, count: int) -> None:
    streams = streams_for(count, 12, take=0)
    # Padded streams are compared without their last three frames.
    frames = 12 if count == 1 else 12 + (6 - 3) + (9 - 3)
    assert check_parity(*sides(weights, streams), streams, 3) == 4 * frames


def test_stereo_is_compared_too(tmp_path: Path) -> None:
    stereo = weights_of_folder(make_checkpoint(tmp_path, **SHAPE, stereo=True), "cpu")
    streams = streams_for(2, 12, take=0)
    assert check_parity(*sides(stereo, streams), streams, 3) == 8 * (12 + 3)


def test_different_weights_are_refused(weights: Weights, tmp_path: Path) -> None:
    others = weights_of_folder(make_checkpoint(tmp_path, **SHAPE, seed=1), "cpu")
    streams = streams_for(1, 12, take=0)
    with pytest.raises(DifferentWorkError, match=r"stream 0 .* differ from transformers' from frame 0"):
        check_parity(sides(weights, streams)[0], sides(others, streams)[1], streams, 3)


def test_different_lengths_are_refused() -> None:
    streams = streams_for(1, 12, take=0)
    short, whole = (Made(1.0, 1.0, (1.0,), (frames,), 15, 2.0) for frames in (11, 12))
    check_lengths(whole, whole, streams)
    with pytest.raises(DifferentWorkError, match=r"\[12\] frames were asked for, Tutti made \[11\]"):
        check_lengths(short, whole, streams)


def test_work_is_counted(weights: Weights) -> None:
    """A step by hand: 2 layers of 32 wide, feed-forward of 64, 4 heads of 64 codes."""
    ours = weights.ours("cpu", torch.float32)
    stream = Stream("piano", frames=2, seed=0)
    work = work_of(ours.decoder, ours.config.codec, [stream], [7], kv_itemsize=4)
    matrices = 2 * (6 * 32 * 32 + 2 * 32 * 64) + 4 * 64 * 32
    norms = (2 * 3 + 1) * 2 * 32
    assert work.steps == 5
    assert work.weight_bytes == 4 * (matrices + norms)
    positions = 2 * (1 + 2 + 3 + 4 + 5) + 5 * 7  # two rows' pasts, and the text for one of them
    assert work.kv_bytes == positions * 2 * 2 * 32 * 4
    assert work.decoder_flop == 5 * 2 * 2 * matrices + positions * 4 * 2 * 32


def test_the_floor_is_the_slower_of_memory_and_arithmetic(weights: Weights) -> None:
    ours = weights.ours("cpu", torch.float32)
    work = work_of(ours.decoder, ours.config.codec, streams_for(2, 20, take=0), [5, 5], kv_itemsize=4)
    endless = 1e30
    assert floor_s(work, Peaks(1, 1, endless)) == pytest.approx(work.total_bytes)
    assert floor_s(work, Peaks(1, endless, 1)) == pytest.approx(work.decoder_flop + work.codec_flop)


def test_peaks_are_measured_for_every_size() -> None:
    small, large = measure_peaks("cpu", torch.float32, [1.0, 5e6])
    assert (small.copy, small.matmul) == (large.copy, large.matmul)
    assert min(small.near, large.near, small.copy, small.matmul) > 0


def test_random_weights_are_drawn_again_from_the_same_seed() -> None:
    streams = streams_for(1, 6, take=0)
    with random_weights("tiny", "cpu", 0) as first, random_weights("tiny", "cpu", 0) as second:
        assert check_parity(sides(first, streams)[0], sides(second, streams)[1], streams, 3) == 24


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seconds", "0"], "--seconds: must be from 0.5 to 30, got 0"),
        (["--seconds", "nan"], "--seconds: must be from 0.5 to 30, got nan"),
        (["--seconds", "soon"], "invalid float value: 'soon'"),
        (["--streams", "0"], "--streams: must be at least 1, got 0"),
        (["--repeats", "-1"], "--repeats: must be at least 1, got -1"),
        (["--threads", "0"], "--threads: must be at least 1, got 0"),
        (["--dtype", "float8"], "invalid choice: 'float8'"),
        (["--shape", "huge"], "invalid choice: 'huge'"),
        (["--shape", "tiny", "--model", "tiny"], "not allowed with argument"),
        (["--model", "nowhere"], "no model 'nowhere'"),
        (["--device", "tpu"], "device must be 'cpu', 'cuda' or 'cuda:N', got 'tpu'"),
        (["--json", "nowhere/bench.json"], "there is no folder"),
        (["--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_bad_arguments_say_what_is_wrong(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        tutti(["bench", "engine", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_device_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("it is there")
    with pytest.raises(SystemExit):
        main(["--device", "cuda"])
    assert "sees no CUDA device; use cpu" in capsys.readouterr().err


def test_a_broken_checkpoint_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text("{")
    assert main(["--model", str(tmp_path)]) == 1
    assert f"Error: {tmp_path}/config.json can not be read" in capsys.readouterr().err
