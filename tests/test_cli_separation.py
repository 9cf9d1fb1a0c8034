"""``tutti generate --melody``: what is taken out of it first, here and by a server, and that it is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from api.cli import main
from api.cli_output import ExitCode
from tests.factories import make_checkpoint
from tests.separation import extra, installed, write_weights

__all__ = ["extra"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def tune(tmp_path: Path) -> Path:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000)
    soundfile.write(tmp_path / "tune.wav", sound, 32_000)
    return tmp_path / "tune.wav"


def generate(output: Path, *more: str) -> int:
    return main(["generate", "calm piano", "-o", str(output), "--seed", "3", "--duration", "0.4", *more])


@installed
def test_a_melody_without_drums_and_bass(extra: None, tune: Path, tmp_path: Path, capsys: Capture) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", melody=True)
    weights = write_weights(tmp_path / "random.safetensors")
    ways = {
        "plain": (),
        "whole": ("--melody-separation", "none", "--separator", str(weights)),
        "separated": ("--separator", str(weights)),
    }
    told = {}
    for name, more in ways.items():
        arguments = ("--model", str(checkpoint), "--melody", str(tune), *more, "--json")
        tokens = ("--tokens-out", str(tmp_path / f"{name}.npy"))
        assert generate(tmp_path / f"{name}.wav", *arguments, *tokens) == ExitCode.OK
        told[name] = json.loads(capsys.readouterr().out)["melody_separation"]
    assert told == {"plain": "none", "whole": "none", "separated": "htdemucs"}
    plain, whole, separated = (np.load(tmp_path / f"{name}.npy") for name in ways)
    np.testing.assert_array_equal(plain, whole)
    assert not np.array_equal(plain, separated)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--melody-separation", "spleeter"), "--melody-separation is none or htdemucs"),
        (("--melody-separation", "htdemucs"), "htdemucs needs its weights here: give --separator FILE"),
        (("--separator", "x.safetensors", "--url", "http://127.0.0.1:9"), "a server has its own"),
    ],
)
def test_what_contradicts_itself_is_a_usage_error(
    more: tuple[str, ...], says: str, tune: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert generate(tmp_path / "x.wav", "--melody", str(tune), *more) == ExitCode.USAGE
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "x.wav").exists()


def test_without_a_melody_there_is_nothing_to_take_out(tmp_path: Path, capsys: Capture) -> None:
    assert generate(tmp_path / "x.wav", "--melody-separation", "none") == ExitCode.USAGE
    assert "give --melody" in " ".join(capsys.readouterr().err.split())
