"""``tutti generate`` with an engine in this process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from api.cli import main
from api.cli_output import ExitCode
from models.catalog import describe
from tests.factories import make_checkpoint

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("random") / "checkpoint")


def generate(checkpoint: Path, output: Path, *more: str) -> int:
    return main(["generate", "calm piano", "-o", str(output), "--model", str(checkpoint), "--duration", "0.4", *more])


def test_audio_codes_and_report(checkpoint: Path, tmp_path: Path, capsys: Capture) -> None:
    spec = describe(checkpoint)
    codes_path = tmp_path / "codes.npy"
    arguments = ("--seed", "3", "--tokens-out", str(codes_path), "--json")
    assert generate(checkpoint, tmp_path / "out.wav", *arguments) == ExitCode.OK

    frames = int(0.4 * spec.frame_rate)
    codes = np.load(codes_path)
    assert codes.dtype == np.int64
    assert codes.shape == (spec.num_codebooks, frames)
    samples, rate = soundfile.read(tmp_path / "out.wav", dtype="int16", always_2d=True)
    assert rate == spec.sample_rate
    assert samples.shape == (round(frames * spec.sample_rate / spec.frame_rate), spec.channels)

    made = json.loads(capsys.readouterr().out)
    assert made["seconds"] == pytest.approx(len(samples) / rate, abs=1e-3)
    assert (made["seed"], made["model"], made["tokens_path"]) == (3, str(checkpoint), str(codes_path))
    assert 0 < made["time_to_first_audio_s"] <= made["generation_s"]
    assert made["load_s"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codes.npy", "out.wav"]


def test_same_seed_same_bytes_and_the_reported_seed_makes_it_again(
    checkpoint: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert generate(checkpoint, tmp_path / "a.wav", "--json") == ExitCode.OK
    seed = json.loads(capsys.readouterr().out)["seed"]
    assert generate(checkpoint, tmp_path / "b.wav", "--seed", str(seed)) == ExitCode.OK
    assert generate(checkpoint, tmp_path / "c.wav", "--seed", str(seed + 1)) == ExitCode.OK
    a, b, c = ((tmp_path / f"{name}.wav").read_bytes() for name in "abc")
    assert a == b != c


def test_greedy_needs_no_seed(checkpoint: Path, tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "2")):
        options = ("--greedy", "--seed", seed, "--tokens-out", str(tmp_path / f"{name}.npy"))
        assert generate(checkpoint, tmp_path / f"{name}.flac", *options) == ExitCode.OK
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_music_without_a_prompt(checkpoint: Path, tmp_path: Path) -> None:
    arguments = ["generate", "", "-o", str(tmp_path / "out.wav"), "--model", str(checkpoint), "--duration", "0.2"]
    assert main(arguments) == ExitCode.OK


def test_over_the_models_maximum(checkpoint: Path, tmp_path: Path, capsys: Capture) -> None:
    assert generate(checkpoint, tmp_path / "out.wav", "--duration", "601") == ExitCode.USAGE
    assert "at most 600 s" in capsys.readouterr().err


def test_less_than_one_frame(checkpoint: Path, tmp_path: Path, capsys: Capture) -> None:
    assert generate(checkpoint, tmp_path / "out.wav", "--duration", "0.001") == ExitCode.USAGE
    assert "duration" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "empty", "missing", "not json"])
def test_broken_checkpoint(damage: str, tmp_path: Path, capsys: Capture) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint")
    weights = folder / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "empty":
        weights.write_bytes(b"")
    elif damage == "missing":
        weights.unlink()
    else:
        (folder / "config.json").write_text("{")
    assert generate(folder, tmp_path / "out.wav", "--json") == ExitCode.USAGE
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "checkpoint_error"
    assert not (tmp_path / "out.wav").exists()
