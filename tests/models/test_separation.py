"""Drums and bass are taken out of melodies: by Demucs itself, with random weights, in a thread of its own."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.conditioning.chroma import tune
from models.conditioning.separation import REMEMBERED, Separator
from models.engine.async_engine import AsyncEngine
from models.engine_config import EngineConfig
from models.errors import CheckpointError, EngineDeadError, InvalidRequestError
from models.separator_file import PACKAGES, SeparatorFile
from models.types import AudioPrompt, GenerationRequest
from tests.factories import make_checkpoint
from tests.separation import SETTINGS, extra, installed, write_weights

__all__ = ["extra"]
RATE = 32_000
Engines = Callable[..., AsyncEngine]


def noise(seconds: float = 0.7, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(-0.5, 0.5, int(seconds * RATE)).astype(np.float32))


def never() -> bool:
    return False


def asked(samples: Tensor, name: str = "x", separation: str = "htdemucs", channels: int = 1) -> GenerationRequest:
    pcm = samples[:, None].expand(-1, channels).numpy().astype("<f4").tobytes()
    melody = AudioPrompt(pcm, channels, RATE)
    return GenerationRequest(name, "calm", 0.3, melody=melody, melody_separation=separation)


@pytest.fixture
def weights(extra: None, tmp_path: Path) -> Path:
    return write_weights(tmp_path / "random.safetensors")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("random") / "checkpoint", melody=True)


@pytest.fixture
def engines(checkpoint: Path) -> Iterator[Engines]:
    running: list[AsyncEngine] = []

    def start(separator: Path | None = None) -> AsyncEngine:
        settings = EngineConfig(
            max_rows=4, num_threads=1, return_codes=True, separator=None if separator is None else str(separator)
        )
        running.append(AsyncEngine.from_path(checkpoint, settings))
        return running[-1]

    yield start
    for each in running:
        each.shutdown()


async def codes(engine: AsyncEngine, request: GenerationRequest) -> bytes:
    made = [chunk async for chunk in engine.generate(request)]
    assert made[-1].codes is not None
    return made[-1].codes


# ---------------------------------------------------------------------------------------------------- without the extra


async def test_an_engine_without_a_separator_refuses_to_separate(engines: Engines) -> None:
    engine = engines()
    with pytest.raises(InvalidRequestError, match="heard as they are: 'htdemucs' is not set up") as refused:
        await codes(engine, asked(noise()))
    assert refused.value.param == "melody_separation"
    with pytest.raises(InvalidRequestError, match="there is none"):
        await codes(engine, GenerationRequest("x", "calm", 0.3, melody_separation="htdemucs"))
    assert await codes(engine, asked(noise(), separation="none"))


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(CheckpointError, match=r"lacks demucs, julius, einops: make separation"):
        SeparatorFile.open(tmp_path / "x.safetensors")


@pytest.mark.parametrize("value", ["", 3, True])
def test_the_setting_is_a_path(value: object) -> None:
    with pytest.raises(InvalidRequestError, match="separator must be the path of a file"):
        EngineConfig(separator=value)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------- with the extra


@installed
def test_what_is_left_is_of_voices_and_the_rest(weights: Path) -> None:
    from demucs.apply import apply_model
    from julius import resample_frac

    separator = Separator.load(weights)
    left = separator.melody_of(noise(), RATE, never)
    assert left.shape == noise().shape
    sound = resample_frac(noise(), RATE, 44_100).expand(1, 2, -1)
    sources = apply_model(separator._network, sound, shifts=0)[0].mean(1)
    vocals_and_other = resample_frac(sources[3] + sources[2], 44_100, RATE)
    torch.testing.assert_close(left, vocals_and_other, atol=1e-6, rtol=0)
    assert not torch.allclose(left, resample_frac(sources.sum(0), 44_100, RATE), atol=1e-3)
    assert tune(left, RATE).tolist() != tune(noise(), RATE).tolist()
    assert separator.nbytes > 4 * 200_000


@installed
def test_the_same_sound_is_separated_once(weights: Path) -> None:
    separator = Separator.load(weights)
    segments: list[int] = []

    def look() -> bool:
        segments.append(len(segments))
        return False

    first = separator.melody_of(noise(0.1), RATE, look)
    once = len(segments)
    assert once > 0
    assert separator.melody_of(noise(0.1), RATE, look) is first
    assert len(segments) == once
    for seed in range(1, REMEMBERED + 1):
        separator.melody_of(noise(0.1, seed), RATE, look)
    before = len(segments)
    again = separator.melody_of(noise(0.1), RATE, look)
    assert len(segments) == before + once, "only the latest are remembered"
    assert torch.equal(again, first), "the same sound leaves the same"


@installed
def test_nobody_waits_for_it_any_more(weights: Path) -> None:
    separator = Separator.load(weights)
    waits = iter([False, True])
    with pytest.raises(EngineDeadError, match="given up"):
        separator.melody_of(noise(2.0), RATE, lambda: next(waits))
    assert separator.melody_of(noise(0.1), RATE, never).isfinite().all(), "the next one is separated"


@installed
async def test_an_engine_follows_what_is_left(weights: Path, engines: Engines) -> None:
    separator, engine = Separator.load(weights), engines(weights)
    left = separator.melody_of(noise(), RATE, never)
    made, mixed, by_hand = await asyncio.gather(
        codes(engine, asked(noise(), "separated", channels=2)),
        codes(engine, asked(noise(), "mixed", "none")),
        codes(engine, asked(left, "by hand", "none")),
    )
    assert made == by_hand
    assert made != mixed


@installed
async def test_a_stream_that_leaves_while_its_melody_is_separated_frees_the_thread(
    weights: Path, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engines(weights)
    begun, segments = threading.Event(), threading.Event()
    separate = Separator.melody_of

    def watched(self: Separator, samples: Tensor, rate: int, given_up: Callable[[], bool]) -> Tensor:
        def look() -> bool:
            begun.set()
            assert segments.wait(60)
            return given_up()

        return separate(self, samples, rate, look)

    monkeypatch.setattr(Separator, "melody_of", watched)
    leaving = asyncio.create_task(codes(engine, asked(noise(2.0))))
    assert await asyncio.to_thread(begun.wait, 60)
    leaving.cancel()
    await asyncio.wait([leaving])
    waiting = asyncio.create_task(codes(engine, asked(noise(0.1), "next")))
    segments.set()
    assert await waiting
    assert len(engine._separations._separator._latest) == 1, "the one that was given up is not there"  # type: ignore[union-attr]


@installed
async def test_a_shutdown_ends_a_separation(weights: Path, engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engines(weights)
    begun, separate = threading.Event(), Separator.melody_of

    def watched(self: Separator, samples: Tensor, rate: int, given_up: Callable[[], bool]) -> Tensor:
        def look() -> bool:
            begun.set()
            return given_up()

        while not given_up():  # as long as it takes
            separate(self, samples[: RATE // 2], rate, look)
            self._latest.clear()
        return separate(self, samples, rate, look)

    monkeypatch.setattr(Separator, "melody_of", watched)
    waiting = asyncio.create_task(codes(engine, asked(noise())))
    assert await asyncio.to_thread(begun.wait, 60)
    engine.shutdown()
    with pytest.raises(EngineDeadError):
        await waiting


@installed
def test_a_model_without_melodies_has_nothing_to_separate(weights: Path, tmp_path: Path) -> None:
    plain = make_checkpoint(tmp_path / "plain")
    with pytest.raises(CheckpointError, match="can not follow a melody: leave separator out"):
        AsyncEngine.from_path(plain, EngineConfig(separator=str(weights)))


BROKEN: list[tuple[dict[str, str], str]] = [
    ({"klass": "os.system"}, "holds 'os.system', not an unquantized demucs.htdemucs.HTDemucs"),
    ({"structure": "{}"}, "not an unquantized"),
    ({"kwargs": "[]"}, "does not say what its network was built with"),
    ({"kwargs": "{"}, "does not say what its network was built with"),
    ({"kwargs": '{"sources": ["piano"], "samplerate": 44100, "audio_channels": 2}'}, "vocals and other are needed"),
    (
        {"kwargs": '{"sources": ["vocals", "other"], "samplerate": 44100, "audio_channels": 2}'},
        r"separator\..* has shape",
    ),
    ({"kwargs": '{"sources": ["vocals", "other"], "samplerate": 44100, "audio_channels": 2, "x": 1}'}, "argument 'x'"),
]


@installed
@pytest.mark.parametrize(("header", "says"), BROKEN, ids=[says for _, says in BROKEN])
def test_weights_that_are_not_htdemucs_are_refused(
    header: dict[str, str], says: str, extra: None, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=says):
        Separator.load(write_weights(tmp_path / "x.safetensors", header))


@installed
def test_a_file_that_is_missing_or_cut_is_named(extra: None, tmp_path: Path) -> None:
    file = tmp_path / "955717e8.safetensors"
    with pytest.raises(CheckpointError, match=r"955717e8.safetensors is not there: fetch 955717e8.safetensors"):
        Separator.load(file)
    whole = write_weights(file).read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="no safetensors file, or was cut short"):
        Separator.load(file)
    file.write_bytes(b"\x80\x02}q\x00.")  # a pickle, as the older files are
    with pytest.raises(CheckpointError, match="no safetensors file"):
        Separator.load(file)


@installed
def test_the_header_is_read_as_it_was_written(weights: Path) -> None:
    found = SeparatorFile.open(weights).settings
    assert {**found, "sources": tuple(found["sources"])} == SETTINGS
