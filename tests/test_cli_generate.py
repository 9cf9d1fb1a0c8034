"""``tutti generate`` with real parts: an engine in this process, and the HTTP application around a fake engine."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import uvicorn

from api.app import create_app
from api.cli import main
from api.cli_output import ExitCode
from api.settings import Settings
from models.catalog import describe
from models.types import AudioChunk, GenerationRequest
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
    assert generate(checkpoint, tmp_path / "out.wav", "--duration", "31") == ExitCode.USAGE
    assert "at most 30 s" in capsys.readouterr().err


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


class Ramp:
    """A fake engine: a rising line in pieces, or a failure after the first one."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[AudioChunk]:
        total = int(request.duration_s * 50) * 640
        line = np.linspace(-1, 1, total, dtype="<f4")
        step = -(-total // 3)
        for index, start in enumerate(range(0, total, step)):
            if index and self.fails:
                raise RuntimeError("the engine broke")
            pcm = line[start : start + step].tobytes()
            yield AudioChunk(index, start, 1, 32_000, pcm, total, is_last=start + step >= total)

    async def ready(self) -> bool | str:
        return True

    async def replicas(self) -> int:
        return 1


class Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()


@contextmanager
def application(checkpoint: Path, backend: Ramp) -> Iterator[str]:
    """The HTTP application on a real socket; yields its address."""
    app = create_app({"random": backend}, {"random": describe(checkpoint, "random")}, Settings())
    server = Server(uvicorn.Config(app, host="127.0.0.1", log_level="critical"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            assert server.listens.wait(30)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
def test_through_a_server(checkpoint: Path, suffix: str, tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / f"out.{suffix}"
    with application(checkpoint, Ramp()) as url:
        arguments = ["generate", "calm", "-o", str(target), "--url", url, "--duration", "1", "--seed", "9", "--json"]
        assert main(arguments) == ExitCode.OK
    made = json.loads(capsys.readouterr().out)
    assert (made["model"], made["seed"], made["seconds"]) == ("random", 9, 1.0)
    samples, rate = soundfile.read(target, dtype="int16")
    assert rate == 32_000
    assert len(samples) == 32_000
    if suffix != "mp3":
        line = np.linspace(-1, 1, 32_000, dtype=np.float32)
        assert np.array_equal(samples, np.rint(line * 32767).astype(np.int16))


def test_server_that_breaks_in_the_middle(checkpoint: Path, tmp_path: Path, capsys: Capture) -> None:
    with application(checkpoint, Ramp(fails=True)) as url:
        assert main(["generate", "calm", "-o", str(tmp_path / "out.wav"), "--url", url, "--json"]) == ExitCode.FAILED
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "truncated"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["calm", "--duration", "31"], "invalid_parameter"),
        (["calm", "--model", "huge"], "model_not_found"),
        ([""], "invalid_parameter"),
    ],
)
def test_what_a_server_refuses(
    checkpoint: Path, arguments: list[str], code: str, tmp_path: Path, capsys: Capture
) -> None:
    with application(checkpoint, Ramp()) as url:
        command = ["generate", *arguments, "-o", str(tmp_path / "out.wav"), "--url", url, "--json"]
        assert main(command) == ExitCode.USAGE
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
