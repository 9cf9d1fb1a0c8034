"""``tutti generate`` with audio, in this process: from codes of an earlier track or from a file, to follow or go on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from api.cli import main
from api.cli_output import ExitCode
from tests.factories import make_checkpoint
from tests.style_files import make_style

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
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 8_000 // 5)
    soundfile.write(tmp_path / "sound.flac", sound, 8_000)  # of another rate than the model's
    more = ("--duration", "0.4", "--continue", str(tmp_path / "sound.flac"))
    assert generate(checkpoint, tmp_path / "a.wav", *more) == ExitCode.OK
    assert generate(checkpoint, tmp_path / "b.wav", *more[:2]) == ExitCode.OK
    assert not np.array_equal(np.load(tmp_path / "a.npy")[:, :10], np.load(tmp_path / "b.npy")[:, :10])


def test_a_tune_is_followed(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", melody=True)
    for name, hertz in {"low": 220, "high": 330}.items():
        tune = np.sin(2 * np.pi * hertz * np.arange(24_000) / 48_000) / 2
        soundfile.write(tmp_path / f"{name}.wav", np.stack([tune, tune], 1), 48_000)
        more = ("--duration", "0.4", "--melody", str(tmp_path / f"{name}.wav"))
        assert generate(checkpoint, tmp_path / f"{name}.flac", *more) == ExitCode.OK
    assert generate(checkpoint, tmp_path / "free.flac", "--duration", "0.4") == ExitCode.OK
    low, high, free = (np.load(tmp_path / f"{name}.npy") for name in ("low", "high", "free"))
    assert not np.array_equal(low, high)
    assert not np.array_equal(low, free)


def test_what_it_is_to_sound_like(tmp_path: Path) -> None:
    checkpoint = make_style(tmp_path / "checkpoint")
    soundfile.write(tmp_path / "like.wav", np.random.default_rng(0).uniform(-0.5, 0.5, (14_400, 2)), 8_000)
    like = ("--duration", "0.3", "--style", str(tmp_path / "like.wav"), "--style-excerpt", "1.6")
    assert generate(checkpoint, tmp_path / "double.flac", *like) == ExitCode.OK
    assert generate(checkpoint, tmp_path / "single.flac", *like, "--guidance-beta", "1") == ExitCode.OK
    double, single = (np.load(tmp_path / f"{name}.npy") for name in ("double", "single"))
    assert not np.array_equal(double, single)


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
        ("silent.wav", (np.zeros(4000), 16_000), "nothing but silence"),
        ("wide.wav", (np.ones((4000, 3)), 16_000), "3 channels"),
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


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--melody", "sound.wav"], "can not follow a melody"),
        (["--style", "sound.wav"], "can not take a style"),
        (["--style-excerpt", "2"], "there is no --style"),
        (["--guidance-beta", "2"], "leave --guidance-beta out"),
        (["--guidance-beta", "11"], "guidance_beta must be in [1, 10]"),
        (["--melody", "codes.npy"], "a melody is a file of audio"),
        (["--melody", "missing.wav"], "no such file"),
        (["--continue", "trk_0123456789abcdef01234567"], "add --url"),
        (["--extend-stride", "10"], "longer than 30 s"),
        (["--num-tracks", "0"], "num-tracks"),
        (["--continue", "codes.npy", "--url", "http://127.0.0.1:9"], "takes audio and no codes"),
        (["--continue", "missing.wav", "--url", "http://127.0.0.1:9"], "no such file"),
    ],
)
def test_what_can_not_be_had_is_refused_before_anything_is_loaded(
    more: list[str], message: str, checkpoint: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write("sound.wav", np.ones(4000), 32_000)
    np.save("codes.npy", np.zeros((4, 8), np.int64))
    assert main(["generate", "x", "-o", "out.wav", "--model", str(checkpoint), *more]) == ExitCode.USAGE
    assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("out.wav").exists()


def test_variations_are_files_with_seeds_of_their_own(checkpoint: Path, tmp_path: Path, capsys: Capture) -> None:
    assert generate(checkpoint, tmp_path / "out.wav", "--duration", "0.4", "--num-tracks", "3", "--json") == ExitCode.OK
    made = json.loads(capsys.readouterr().out)
    names = [(str(tmp_path / f"out-{i}.wav"), 3 + i, str(tmp_path / f"out-{i}.npy")) for i in range(3)]
    assert [(each["path"], each["seed"], each["tokens_path"]) for each in made["tracks"]] == names
    assert made["path"] == names[0][0]
    assert len(list(tmp_path.iterdir())) == 6
    assert generate(checkpoint, tmp_path / "alone.wav", "--duration", "0.4", "--seed", "5") == ExitCode.OK
    assert (tmp_path / "alone.wav").read_bytes() == (tmp_path / "out-2.wav").read_bytes()
    np.testing.assert_array_equal(np.load(tmp_path / "alone.npy"), np.load(tmp_path / "out-2.npy"))
    assert (tmp_path / "out-0.wav").read_bytes() != (tmp_path / "out-1.wav").read_bytes()


def test_a_variation_that_can_not_be_written_is_named(checkpoint: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "out-1.wav").mkdir()
    assert generate(checkpoint, tmp_path / "out.wav", "--num-tracks", "2") == ExitCode.USAGE
    assert "out-1.wav is a folder" in capsys.readouterr().err
