"""What a worker holds of the sounds that its generations listen to: few at once, in blocks, and not for long."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from api.formats.base import FloatSamples
from api.formats.resample import resampled
from api.generations import states
from api.generations.execution import Execution
from api.generations.sounds import SoundReader, Sounds
from api.generations.throughput import Throughput
from api.storage.audio import AudioLibrary, AudioRow
from models.errors import InvalidRequestError
from models.types import AudioChunk, AudioPrompt, GenerationRequest
from tests.api.fakes import FakeGenerator
from tests.api.generations.conftest import PATIENCE_S, Bench

RATE, WANTED = 48_000, 32_000


class Shelf(AudioLibrary):
    """Sounds without a store below them, each made when it is read."""

    def __init__(self, seconds: float, right: float = 0.5) -> None:
        self.total_samples = int(seconds * RATE)
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Semaphore(0)
        self.readers = 0
        self.most = 0
        self._right = right

    async def read(self, row: AudioRow, first_sample: int, num_samples: int) -> FloatSamples:
        self.readers += 1
        self.most = max(self.most, self.readers)
        self.begun.release()
        await self.gate.wait()
        self.readers -= 1
        left = np.sin(np.arange(first_sample, first_sample + num_samples, dtype=np.float32) * 0.05)
        return np.stack([left, left * self._right], axis=1)

    @property
    def conditioning(self) -> Mapping[str, Any]:
        source = {
            "account_id": "acc_1", "object_key": "a/b", "channels": 2, "sample_rate": RATE, "wanted_rate": WANTED,
            "total_samples": self.total_samples,
        }  # fmt: skip
        return {"melody": "upl_1", "melody_source": source}


async def test_blocks_make_the_sound_that_the_whole_makes() -> None:
    shelf = Shelf(25.3)
    heard = (await SoundReader(shelf).read(shelf.conditioning)).melody
    assert heard is not None
    whole = await shelf.read(None, 0, shelf.total_samples)  # type: ignore[arg-type]
    mono = whole.mean(axis=1, keepdims=True)
    np.testing.assert_array_equal(np.frombuffer(heard.pcm, "<f4")[:, None], resampled(mono, RATE, WANTED))
    assert (heard.channels, heard.sample_rate) == (1, WANTED)


async def test_channels_that_cancel_out_are_refused() -> None:
    shelf = Shelf(12.0, right=-1.0)
    with pytest.raises(InvalidRequestError, match="cancel out"):
        await SoundReader(shelf).read(shelf.conditioning)


async def test_a_melody_is_never_whole_as_it_is_stored() -> None:
    """A minute is 23 MB there, 7.7 MB as a replica takes it: twice that and a few blocks are needed."""
    shelf = Shelf(60.0)
    reader = SoundReader(shelf)
    await reader.read(Shelf(1.0).conditioning)  # whatever is loaded once
    tracemalloc.start()
    try:
        await reader.read(shelf.conditioning)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * RATE * 60


async def test_few_are_read_at_once() -> None:
    shelf = Shelf(0.5)
    reader = SoundReader(shelf, at_once=2)
    shelf.gate.clear()
    reading = [asyncio.create_task(reader.read(shelf.conditioning)) for _ in range(7)]
    plain = await reader.read(None)
    assert plain == Sounds(), "who has no sound waits for nobody"
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(2):
            await shelf.begun.acquire()
        shelf.gate.set()
        await asyncio.gather(*reading)
    assert shelf.most == 2


class Watched(AudioPrompt):
    """One that can be seen to go."""


class FixedReader(SoundReader):
    async def read(self, conditioning: Mapping[str, Any] | None) -> Sounds:
        return Sounds(melody=Watched(bytes(4 * 64), 1, WANTED))


@dataclass
class Replica(FakeGenerator):
    """Keeps nothing of what it is asked for, and stops after the first chunk of each track."""

    sounds: list[weakref.ref[Any]] = field(default_factory=list)
    begun: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def generate(self, request: GenerationRequest) -> AsyncIterator[AudioChunk]:
        self.sounds.append(weakref.ref(request.melody))
        chunks = self._chunks(request)
        del request
        yield chunks[0]
        self.begun.release()
        await self.go_on.wait()
        for chunk in chunks[1:]:
            yield chunk


async def test_a_sound_is_let_go_of_once_every_track_has_begun(bench: Bench) -> None:
    owner = await bench.account()
    made = await bench.create(owner, num_tracks=2)
    async with bench.db.begin() as conn:
        lease = await states.start(conn, made.id, owner.account_id, "wrk_1", bench.clock(), charge_s=2.0)
    assert lease is not None
    replica = Replica()
    execution = Execution(
        lease, replica, bench.feed, bench.audio, Throughput({"tiny": 2}), bench.clock, FixedReader(bench.audio)
    )
    making = asyncio.create_task(execution.make())
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(2):
            await replica.begun.acquire()
    gc.collect()
    assert [sound() for sound in replica.sounds] == [None, None]
    replica.go_on.set()
    await making
    assert len(execution.stored) == 2
