"""Small real models, and a driver that lets requests arrive and leave at chosen steps."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.engine.engine import Engine
from models.engine.loader import LoadedModel, load_model
from models.engine.step import EngineOutput
from models.engine_config import EngineConfig
from models.errors import TuttiError
from models.types import AudioChunk, GenerationRequest, SamplingParams
from tests.factories import make_checkpoint

torch.set_num_threads(1)

HOP = 8
"""Samples per frame of the small codec: 50 frames per second, 400 Hz."""


# The two runners: a step as a call, and the step that a GPU captures, started ahead of what is known.
RUNNERS = pytest.mark.parametrize("runner", [{}, {"graph": True, "run_ahead": 2}], ids=["ordinary", "captured"])


def small_model(stereo: bool = False, **config: Any) -> LoadedModel:
    """32 wide, 64 codes, a codec of two stages; loaded once for whatever of the settings a model depends on."""
    settings = EngineConfig(**{**config, "run_ahead": 0})
    return _load(stereo, settings.graph, settings.attention, settings.layers, settings.kv, settings.text_positions)


@cache
def _load(stereo: bool, graph: bool, attention: str, layers: str, kv: str, text_positions: int | None) -> LoadedModel:
    with tempfile.TemporaryDirectory() as folder:
        path = make_checkpoint(
            folder, hidden=32, layers=2, heads=4, ffn=64, stereo=stereo, vocab=64, ratios=(4, 2), filters=2
        )
        options = {"attention": attention, "layers": layers, "kv": kv, "text_positions": text_positions}
        return load_model(path, EngineConfig(graph=graph, **options))  # type: ignore[arg-type]


def small_engine(stereo: bool = False, **config: Any) -> Engine:
    settings = {"return_codes": True, "num_threads": 1, **config}
    return Engine(small_model(stereo, **settings), EngineConfig(**settings))


def request(
    name: str = "r", prompt: str = "calm piano", frames: int = 12, seed: int = 0, **sampling: Any
) -> GenerationRequest:
    # A hundredth of a frame more, so that frames / 50 × 50 never rounds down.
    return GenerationRequest(name, prompt, (frames + 0.01) / 50, seed, SamplingParams(**sampling))


@dataclass(slots=True)
class Track:
    """What one listener got."""

    chunks: list[AudioChunk] = field(default_factory=list)
    error: TuttiError | None = None

    @property
    def is_complete(self) -> bool:
        return bool(self.chunks) and self.chunks[-1].is_last

    @property
    def pcm(self) -> NDArray[np.float32]:
        """``[samples, channels]``"""
        whole = np.frombuffer(b"".join(chunk.pcm for chunk in self.chunks), "<f4")
        return whole.reshape(-1, self.chunks[0].channels)

    def codes(self, num_codebooks: int = 4) -> NDArray[np.int64]:
        """``[K, frames]``"""
        last = self.chunks[-1].codes
        assert last is not None
        return np.frombuffer(last, "<i8").reshape(num_codebooks, -1)


Tracks = dict[str, Track]


def collect(tracks: Tracks, outputs: Iterable[EngineOutput]) -> None:
    for output in outputs:
        track = tracks.setdefault(output.request_id, Track())
        assert track.error is None, "news after the end"
        assert not track.is_complete, "news after the end"
        if isinstance(output.news, TuttiError):
            track.error = output.news
        else:
            track.chunks.append(output.news)


def drive(
    engine: Engine,
    arrivals: Mapping[int, Iterable[GenerationRequest]],
    aborts: Mapping[int, Iterable[str]] | None = None,
) -> Tracks:
    """Step until all is done; requests arrive and are aborted before the steps named."""
    tracks: Tracks = {}
    aborts = aborts or {}
    step, last = 0, max([0, *arrivals, *aborts])
    while step <= last or engine.has_work:
        for arrival in arrivals.get(step, ()):
            engine.add(arrival)
        for name in aborts.get(step, ()):
            engine.abort(name)
        if engine.has_work:
            collect(tracks, engine.step())
            engine.check_integrity()
        step += 1
    return tracks


def alone(request: GenerationRequest, stereo: bool = False, **config: Any) -> Track:
    """The track of a request in an engine of its own."""
    return drive(small_engine(stereo, **config), {0: [request]})[request.request_id]


def drive_at_random(
    engine: Engine, requests: SequenceOf[GenerationRequest], chance: Random, aborted_share: float
) -> tuple[Tracks, set[str]]:
    """Everybody comes and some are aborted at any step; the tracks, and who was aborted."""
    arrivals: dict[int, list[GenerationRequest]] = {}
    aborts: dict[int, list[str]] = {}
    for item in chance.sample(requests, len(requests)):
        arrivals.setdefault(chance.randint(0, 30), []).append(item)
        if chance.random() < aborted_share:
            aborts.setdefault(chance.randint(0, 60), []).append(item.request_id)
    return drive(engine, arrivals, aborts), {name for names in aborts.values() for name in names}


def assert_idle(engine: Engine) -> None:
    """Nothing is left of anyone."""
    engine.check_integrity()
    stats = engine.stats()
    assert not engine.has_work
    assert (stats.active_rows, stats.running, stats.waiting, stats.outstanding_row_steps) == (0, 0, 0, 0)
    assert stats.free_kv_positions == engine.config.kv_positions_for(engine.model)
