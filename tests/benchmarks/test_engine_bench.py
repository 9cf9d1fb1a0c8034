"""The engine benchmark itself: it compares equal work or nothing, and says what it found in one JSON line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from api.cli import main as tutti
from benchmarks.ceiling import Peaks, floor_s, measure_peaks, work_of
from benchmarks.engine_bench import main
from benchmarks.parity import Agreement, DifferentWorkError, agreement, check_lengths, check_parity
from benchmarks.peers.transformers_generate import Transformers
from benchmarks.sides import Made, Tutti
from benchmarks.weights import Weights, random_weights, weights_of_folder
from benchmarks.workload import Stream, streams_for
from models.musicgen.decoder import MusicGenDecoder
from tests.factories import make_checkpoint

REPOSITORY = Path(__file__).resolve().parents[2]
SHAPE: dict[str, Any] = {"hidden": 32, "layers": 2, "heads": 4, "ffn": 64, "vocab": 64, "filters": 2, "ratios": (4, 2)}
HEADLINE = {"steps_per_second", "realtime_factor", "ceiling_steps_per_second", "time_to_first_audio_s", "peers"}
FIGURES = {"wall_s", "cpu_s", "steps_per_second", "realtime_factor", "time_to_first_audio_s", "last_first_audio_s"}
RATIOS = {"ratio", "best_ratio", "first_audio_ratio", "cpu_ratio"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), **SHAPE)


@pytest.fixture(scope="module")
def weights(checkpoint: Path) -> Weights:
    torch.set_num_threads(1)
    return weights_of_folder(checkpoint, "cpu")


def sides(weights: Weights, streams: tuple[Stream, ...]) -> tuple[Tutti, Transformers]:
    return Tutti(weights, "fp32", "cpu", streams), Transformers(weights, torch.float32)


@dataclass(frozen=True, slots=True)
class Report:
    """One run: the file's JSON, what was printed, the page, and what was imported."""

    written: dict[str, Any]
    printed: str
    page: str
    imports: str


@pytest.fixture(scope="module")
def report(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """1 s clips of 3 streams, in a process of their own."""
    folder = tmp_path_factory.mktemp("report")
    command = f"-X importtime -m benchmarks.engine_bench --model {checkpoint} --duration 1 --batch 3 --repeats 2"
    command += f" --threads 1 --json {folder}/bench.json --html {folder}/bench.html"
    run = subprocess.run(
        [sys.executable, *command.split()],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    page = (folder / "bench.html").read_text()
    return Report(json.loads((folder / "bench.json").read_text()), run.stdout, page, run.stderr)


def test_the_last_line_is_the_report(report: Report) -> None:
    written, printed = report.written, report.printed
    assert json.loads(printed.splitlines()[-1]) == written
    assert {"benchmark", "schema", "model", "settings", "machine", "parity", "runs"} | HEADLINE < set(written)
    assert written["settings"] == {"duration": 1.0, "batch": 3, "repeats": 2, "budget_s": 60.0, "seed": 0}
    assert written["model"]["weights"] == "fp32"
    assert written["machine"]["threads"] == 1
    assert written["parity"]["codes"] > 0
    assert written["steps_per_second"] == written["runs"][0]["steps_per_second"]
    assert written["peers"]["transformers-fp32"]["ratio"] > 0


def test_the_ceiling_comes_first(report: Report) -> None:
    printed = report.printed
    assert printed.index("GFLOP/s") < printed.index("all equal") < printed.index("first audio")


def test_both_sides_make_what_is_asked(report: Report) -> None:
    """transformers pads all to the longest, we do not."""
    (run,) = report.written["runs"]
    assert run["workload"] == "batch-3"
    assert run["frames"] == run["frames_asked"] == [50, 25, 37]
    assert run["peers"]["transformers-fp32"]["frames"] == [50, 50, 50]
    assert run["audio_s"] == pytest.approx(112 / 50)
    assert 3 < run["rows_per_step"] < 6


def test_all_figures_are_positive_and_within_their_spread(report: Report) -> None:
    (run,) = report.written["runs"]
    peer = run["peers"]["transformers-fp32"]
    for side in (run, peer):
        assert {key for key in FIGURES if side[key] > 0} == FIGURES
        assert all(side["spread"][key][0] <= side[key] <= side["spread"][key][1] for key in FIGURES)
        assert side["runs"] == 2
    assert {key for key in RATIOS if peer[key] > 0} == RATIOS
    assert peer["agreement"]["equal"] == 1
    assert min(run["ceiling"].values()) > 0
    assert sum(run["stages"].values()) == pytest.approx(1)
    assert run["time_to_first_audio_s"] < run["wall_s"]


def test_the_page_needs_nobody_else(report: Report) -> None:
    assert "<svg" in report.page
    assert "transformers-fp32" in report.page
    assert "://" not in report.page.replace("http://www.w3.org", "")


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
    streams = (Stream("piano", 12, 0), Stream("piano", 6, 1))
    asked, padded, short = (Made(1.0, 1.0, (1.0,), frames, 15, 2.0) for frames in ((12, 6), (12, 12), (11, 6)))
    check_lengths(asked, streams)
    check_lengths(padded, streams, padded=True)
    with pytest.raises(DifferentWorkError, match=r"\[12, 6\] frames were asked for, \[12, 12\] were made"):
        check_lengths(padded, streams)
    with pytest.raises(DifferentWorkError, match=r"\[11, 6\] were made"):
        check_lengths(short, streams, padded=True)


def test_agreement_counts_codes_and_frames() -> None:
    reference = np.arange(8).reshape(2, 4)
    other = reference.copy()
    other[1, 2] = 99
    assert agreement(reference, reference) == Agreement(8, 1.0, 4)
    assert agreement(other, reference) == Agreement(8, 7 / 8, 2)


@pytest.mark.parametrize(("weights_format", "itemsize"), [("fp32", 4), ("bf16", 2), ("int8", 1), ("int4", 0.5)])
def test_work_is_counted(weights: Weights, weights_format: str, itemsize: float) -> None:
    """A step by hand: 2 layers of 32 wide, feed-forward of 64, 4 heads of 64 codes."""
    work = work_of(weights.config, weights_format, [Stream("piano", frames=2, seed=0)], [7], kv=4)
    matrices = 2 * (6 * 32 * 32 + 2 * 32 * 64) + 4 * 64 * 32
    norms = (2 * 3 + 1) * 2 * 32
    assert work.steps == 5
    assert work.weight_bytes == itemsize * matrices + (4 if weights_format == "fp32" else 2) * norms
    positions = 2 * (1 + 2 + 3 + 4 + 5) + 5 * 7  # two rows' pasts, and the text for one of them
    assert work.kv_bytes == positions * 2 * 2 * 32 * 4
    null_row = matrices - 2 * 2 * 32 * 32  # it listens to no text
    assert work.decoder_flop == 5 * 2 * (matrices + null_row) + positions * 4 * 2 * 32


def test_work_is_what_the_decoder_holds(weights: Weights) -> None:
    """torch's decoder, parameter by parameter; tables and what is applied once per text are not read in a step."""
    decoder = MusicGenDecoder.from_checkpoint(weights.checkpoint)
    once = ("embedding", "text_projection")
    read = [each for name, each in decoder.named_parameters() if not name.startswith(once) and ".cross_kv." not in name]
    work = work_of(weights.config, "fp32", [Stream("piano", frames=2, seed=0)], [7], kv=4)
    assert work.weight_bytes == sum(each.nbytes for each in read)


def test_the_floor_is_the_slower_of_memory_and_arithmetic(weights: Weights) -> None:
    work = work_of(weights.config, "fp32", streams_for(2, 20, take=0), [5, 5], kv=4)
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
        (["--duration", "0"], "--duration: must be from 0.5 to 30, got 0"),
        (["--duration", "nan"], "--duration: must be from 0.5 to 30, got nan"),
        (["--duration", "soon"], "invalid float value: 'soon'"),
        (["--batch", "0"], "--batch: must be at least 1, got 0"),
        (["--repeats", "-1"], "--repeats: must be at least 1, got -1"),
        (["--threads", "0"], "--threads: must be at least 1, got 0"),
        (["--budget-s", "0"], "--budget-s: must be above 0, got 0"),
        (["--weights", "fp8"], "invalid choice: 'fp8'"),
        (["--weights", "int8", "--device", "cuda"], "or int8 with graph: true, got 'int8'"),
        (["--model", "small"], "no weights of 'small' here: give a folder, or add --random-weights"),
        (["--model", "huge", "--random-weights"], "--model must be one of tiny, small, medium, large, got 'huge'"),
        (["--peers", "vllm-bf16"], "no peer 'vllm-bf16': give some of transformers-fp32"),
        (["--peers", "window-bf16"], "no peer 'window-bf16'"),
        (["--html", "nowhere/bench.html"], "--html: there is no folder"),
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


def test_a_baseline_that_is_none_is_named_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "baseline.json").write_text("[]")
    assert main(["--compare", str(tmp_path / "baseline.json")]) == 1
    assert "is no result of 'tutti bench engine'; write one with --json" in capsys.readouterr().err
