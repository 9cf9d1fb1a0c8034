"""``tutti generate --url`` and the whole platform behind a real server that cuts connections."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import soundfile
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import cli_retry
from api.cache.embedded import EmbeddedValkey
from api.cli import main
from api.cli_output import ExitCode
from models.errors import GenerationFailedError
from models.types import AudioPrompt
from tests.api.fakes import SAMPLE_RATE, FakeGenerator, sine
from tests.served import Served, serving

Capture = pytest.CaptureFixture[str]
HEADER_BYTES = 44
SEED = 9


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_retry, "RETRY_DELAYS_S", (0.0,) * 6)


@pytest.fixture(scope="module")
def valkey() -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey() as server:
        yield server


@dataclass
class Scissors:
    """Stands before the application and cuts connections over which audio goes.

    Attributes:
        cuts: after how many bytes each of the first connections breaks.
        before: awaited before connection ``i`` is answered.
        statuses: of the answers with audio, and of the requests for music.
    """

    cuts: list[int] = field(default_factory=list)
    before: dict[int, Callable[[], Awaitable[object]]] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        if not scope.get("path", "").endswith("/audio"):
            await self.app(scope, receive, send)
            return
        number = len(self.statuses)
        if number in self.before:
            await self.before[number]()
        left = self.cuts[number] if number < len(self.cuts) else None

        async def cutting(message: Message) -> None:
            nonlocal left
            if message["type"] == "http.response.start":
                self.statuses.append(message["status"])
            elif left is not None:
                body = message.get("body", b"")
                await send({**message, "body": body[:left], "more_body": True})
                left -= len(body)
                if left <= 0:
                    raise ConnectionResetError("cut by the test")
                return
            await send(message)

        await self.app(scope, receive, cutting)


def generate(served: Served, target: Path, *more: str) -> int:
    arguments = ["generate", "calm", "-o", str(target), "--url", served.url, "--key", served.key, "--json"]
    return main([*arguments, "--duration", "1", "--seed", str(SEED), *more])


def expected() -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return np.rint(sine(SEED, SAMPLE_RATE)[:, 0] * 32767).astype(np.int16)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
def test_through_a_server(valkey: EmbeddedValkey, suffix: str, tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / f"out.{suffix}"
    with serving(valkey, tmp_path, FakeGenerator()) as served:
        assert generate(served, target) == ExitCode.OK
    made = json.loads(capsys.readouterr().out)
    assert (made["model"], made["seed"], made["seconds"]) == ("tiny", SEED, 1.0)
    samples, rate = soundfile.read(target, dtype="int16")
    assert rate == SAMPLE_RATE
    assert len(samples) == SAMPLE_RATE
    if suffix != "mp3":
        np.testing.assert_array_equal(samples, expected())


@pytest.mark.parametrize("cut", [1, HEADER_BYTES, HEADER_BYTES + 1, 10_001])
def test_a_cut_while_it_is_made(valkey: EmbeddedValkey, cut: int, tmp_path: Path) -> None:
    """The rest is made only after the client has come back, so it comes back to a track in the making."""
    generator = FakeGenerator()
    gate = generator.hold(2)

    async def go_on() -> None:
        gate.set()

    scissors = Scissors([cut], {1: go_on})
    with serving(valkey, tmp_path, generator, scissors) as served:
        assert generate(served, tmp_path / "out.wav") == ExitCode.OK
    samples, _ = soundfile.read(tmp_path / "out.wav", dtype="int16")
    np.testing.assert_array_equal(samples, expected())
    assert scissors.statuses == [200, 200]
    assert generator.started == 1


def test_a_cut_and_a_track_that_is_finished_meanwhile(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    scissors = Scissors([10_001, 1, 7_777])
    with serving(valkey, tmp_path, FakeGenerator(), scissors) as served:
        scissors.before[1] = served.last_has_ended
        assert generate(served, tmp_path / "out.wav") == ExitCode.OK
    samples, _ = soundfile.read(tmp_path / "out.wav", dtype="int16")
    np.testing.assert_array_equal(samples, expected())
    assert scissors.statuses == [200, 206, 206, 206]


def test_an_engine_that_breaks_in_the_middle(valkey: EmbeddedValkey, tmp_path: Path, capsys: Capture) -> None:
    generator = FakeGenerator(errors={2: GenerationFailedError("it broke")})
    with serving(valkey, tmp_path, generator) as served:
        assert generate(served, tmp_path / "out.wav") == ExitCode.FAILED
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "generation_failed"
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--duration", "31"], "invalid_parameter"),
        (["--model", "huge"], "model_not_found"),
        (["--key", "sk_live_tt_nobodys"], "invalid_credentials"),
    ],
)
def test_what_a_server_refuses(
    valkey: EmbeddedValkey, arguments: list[str], code: str, tmp_path: Path, capsys: Capture
) -> None:
    with serving(valkey, tmp_path, FakeGenerator()) as served:
        assert generate(served, tmp_path / "out.wav", *arguments) == ExitCode.USAGE
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == code
    assert served.key not in error["message"]


def test_nobody_comes_in_without_a_key(valkey: EmbeddedValkey, tmp_path: Path, capsys: Capture) -> None:
    with serving(valkey, tmp_path, FakeGenerator()) as served:
        assert main(["generate", "calm", "-o", str(tmp_path / "out.wav"), "--url", served.url]) == ExitCode.USAGE
    assert "TUTTI_API_KEY" in capsys.readouterr().err


def test_audio_variations_and_a_stride_go_through_a_server(
    valkey: EmbeddedValkey, tmp_path: Path, capsys: Capture
) -> None:
    generator = FakeGenerator(chunk_s=5.0)
    sounds = {name: sine(pitch, SAMPLE_RATE // 2) for pitch, name in enumerate(("tune.flac", "start.wav"))}
    for name, samples in sounds.items():
        soundfile.write(tmp_path / name, samples, SAMPLE_RATE)
    more = ("--melody", str(tmp_path / "tune.flac"), "--continue", str(tmp_path / "start.wav"), "--num-tracks", "2")
    with serving(valkey, tmp_path, generator) as served:
        listening(served)
        options = ("--duration", "30.5", "--extend-stride", "12")
        assert generate(served, tmp_path / "out.flac", *more, *options) == ExitCode.OK
    made = json.loads(capsys.readouterr().out)
    paths = [tmp_path / f"out-{position}.flac" for position in range(2)]
    assert [(each["path"], each["seed"]) for each in made["tracks"]] == list(zip(map(str, paths), (9, 10), strict=True))
    for path, seed in zip(paths, (9, 10), strict=True):
        samples, _ = soundfile.read(path, dtype="int16")
        np.testing.assert_array_equal(samples, np.rint(sine(seed, int(30.5 * SAMPLE_RATE))[:, 0] * 32767))
    one, other = generator.requests
    assert (one.extend_stride_s, one.melody, one.continues) == (12.0, other.melody, other.continues)
    for prompt, samples in zip((one.melody, one.continues), sounds.values(), strict=True):
        assert isinstance(prompt, AudioPrompt)
        np.testing.assert_allclose(np.frombuffer(prompt.pcm, "<f4"), samples[:, 0], atol=1e-4)


def test_a_track_of_the_server_is_named_by_its_id(valkey: EmbeddedValkey, tmp_path: Path, capsys: Capture) -> None:
    generator = FakeGenerator()
    with serving(valkey, tmp_path, generator) as served:
        listening(served)
        assert generate(served, tmp_path / "first.wav") == ExitCode.OK
        headers = {"Authorization": f"Bearer {served.key}"}
        (track,) = httpx2.get(f"{served.url}/api/v1/audio", headers=headers, timeout=30.0).json()["data"]
        assert generate(served, tmp_path / "out.wav", "--duration", "2", "--continue", track["id"]) == ExitCode.OK
        assert isinstance(generator.requests[-1].continues, AudioPrompt)
        capsys.readouterr()
        for more, code in [
            (["--continue", "trk_0123456789abcdef01234567"], "audio_not_found"),
            (["--style", track["id"]], "conditioning_unsupported"),
            (["--extend-stride", "10"], "invalid_parameter"),
            (["--num-tracks", "9"], "invalid_parameter"),
        ]:
            assert generate(served, tmp_path / "no.wav", *more) == ExitCode.USAGE
            assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert len(generator.requests) == 2
    assert not list(tmp_path.glob("no*"))


def test_a_file_that_the_server_can_not_read(valkey: EmbeddedValkey, tmp_path: Path, capsys: Capture) -> None:
    generator = FakeGenerator()
    (tmp_path / "tune.wav").write_bytes(b"RIFF and nothing else")
    with serving(valkey, tmp_path, generator) as served:
        listening(served)
        assert generate(served, tmp_path / "out.wav", "--melody", str(tmp_path / "tune.wav")) == ExitCode.USAGE
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "unsupported_media_type"
    assert generator.requests == []


def test_one_variation_that_breaks_leaves_no_file_of_any(
    valkey: EmbeddedValkey, tmp_path: Path, capsys: Capture
) -> None:
    generator = FakeGenerator(errors={2: GenerationFailedError("it broke")})
    with serving(valkey, tmp_path, generator) as served:
        assert generate(served, tmp_path / "out.wav", "--num-tracks", "2") == ExitCode.FAILED
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "generation_failed"
    assert not list(tmp_path.glob("*out*"))


def listening(served: Served) -> None:
    """The server's model can encode audio and follow melodies, for a minute."""
    known = served.platform.services.generations._models
    heard: dict[str, Any] = {"goes_on_from_audio": True, "takes_melody": True, "max_duration_s": 60.0}
    known.update({name: replace(spec, **heard) for name, spec in known.items()})
