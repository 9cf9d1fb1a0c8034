"""``tutti generate --continue``: from the codes of an earlier track, or from a file of audio."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from api.cli import main
from api.cli_output import ExitCode
from tests.factories import make_checkpoint

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("random") / "checkpoint")


def generate(checkpoint: Path, output: Path, *more: str) -> int:
    arguments = ["generate", "calm piano", "-o", str(output), "--model", str(checkpoint), "--seed", "3"]
    return main([*arguments, "--tokens-out", str(output.with_suffix(".npy")), *more])


def test_the_beginning_of_a_track_is_gone_on_from_exactly(checkpoint: Path, tmp_path: Path) -> None:
    assert generate(checkpoint, tmp_path / "whole.wav", "--duration", "0.6") == ExitCode.OK
    whole = np.load(tmp_path / "whole.npy")
    np.save(tmp_path / "preview.npy", whole[:, :12])
    more = ("--duration", "0.6", "--continue", str(tmp_path / "preview.npy"))
    assert generate(checkpoint, tmp_path / "extended.wav", *more) == ExitCode.OK
    np.testing.assert_array_equal(np.load(tmp_path / "extended.npy"), whole)
    samples, _ = soundfile.read(tmp_path / "extended.wav")
    assert len(samples) == 30 * 640


def test_a_file_of_audio_is_gone_on_from(checkpoint: Path, tmp_path: Path) -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 32_000 // 5)
    soundfile.write(tmp_path / "sound.flac", sound, 32_000)
    more = ("--duration", "0.4", "--continue", str(tmp_path / "sound.flac"))
    assert generate(checkpoint, tmp_path / "a.wav", *more) == ExitCode.OK
    assert generate(checkpoint, tmp_path / "b.wav", *more[:2]) == ExitCode.OK
    assert not np.array_equal(np.load(tmp_path / "a.npy")[:, :10], np.load(tmp_path / "b.npy")[:, :10])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.npy", None, "no such file"),
        ("broken.npy", b"\x93NUMPY", "can not be read as codes"),
        ("broken.wav", b"RIFF", "can not be read as audio"),
        ("headless.raw", bytes(400), "can not be read as audio"),
        ("flat.npy", np.zeros(8, np.int64), "holds no codes"),
        ("real.npy", np.zeros((4, 8)), "holds no codes"),
        ("pickled.npy", np.array([{}], dtype=object), "can not be read as codes"),
        ("empty.npy", np.zeros((4, 0), np.int64), "whole frames"),
        ("others.npy", np.full((4, 8), 64), "another model"),
        ("long.npy", np.zeros((4, 40), np.int64), "ask for more"),
        ("slow.wav", (np.zeros(4000), 16_000), "resample"),
    ],
)
def test_a_file_that_can_not_be_gone_on_from(
    name: str, content: object, message: str, checkpoint: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, np.ndarray):
        np.save(path, content)
    elif isinstance(content, tuple):
        soundfile.write(path, *content)
    more = ("--duration", "0.4", "--continue", str(path))
    assert generate(checkpoint, tmp_path / "out.wav", *more) == ExitCode.USAGE
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out.wav").exists()


def test_a_server_takes_neither(tmp_path: Path, capsys: Capture) -> None:
    arguments = ["generate", "x", "-o", str(tmp_path / "out.wav"), "--url", "http://127.0.0.1:9"]
    for more in (["--continue", "a.npy"], ["--extend-stride", "10"]):
        assert main([*arguments, *more]) == ExitCode.USAGE
        assert "Drop --url" in capsys.readouterr().err
