"""Long tracks whose attempt is cut short: the next one goes on from the windows that were finished."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from api.generations.view import State
from api.streams import keys
from models.errors import ReplicaLostError
from models.types import AudioChunk, CodePrompt, GenerationRequest
from tests.api.fakes import FakeGenerator
from tests.api.generations.conftest import Bench

LONG_S = 31.0
FRAMES = 1550


def codes(frames: int) -> CodePrompt:
    return CodePrompt(np.arange(4 * frames).astype("<i8").tobytes(), 4)


@dataclass
class LongGenerator(FakeGenerator):
    """Tells of a window after its chunks 2 and 4, and loses the first attempts.

    Attributes:
        lost: so many, each before its chunk 5.
    """

    chunk_s: float = 4.0
    lost: int = 1

    def _chunks(self, request: GenerationRequest) -> list[AudioChunk]:
        chunks = super()._chunks(request)
        told = {2: codes(600), 4: codes(900)}
        chunks[-1] = replace(chunks[-1], codes=codes(FRAMES).codes)
        return [replace(chunk, finished=told.get(chunk.index)) for chunk in chunks]

    async def _before(self, index: int) -> None:
        await super()._before(index)
        if index == 5 and self.started <= self.lost:
            raise ReplicaLostError("the replica died in the sixth chunk")


@pytest.fixture
def long(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> LongGenerator:
    bench.generators["tiny"] = generator = LongGenerator()
    known = bench.service._models  # its own
    monkeypatch.setitem(known, "tiny", replace(known["tiny"], max_duration_s=600.0))
    return generator


async def kept(bench: Bench, generation_id: str) -> bool:
    return bool(await bench.cache.redis.exists(keys.codes_key(bench.cache, generation_id, 0)))


async def test_a_lost_attempt_is_resumed_from_the_windows_it_finished(
    bench: Bench, long: LongGenerator, no_backoff: None
) -> None:
    made = await bench.create(await bench.account(), duration_s=LONG_S)
    async with bench.working():
        view = await bench.until(made.id)
    assert (view.state, view.attempt) == (State.SUCCEEDED, 2)
    first, second = long.requests
    assert first.resumes is None
    assert second.resumes == codes(900)
    assert (first.seed, first.duration_s) == (second.seed, second.duration_s)
    assert not await kept(bench, made.id), "nobody needs them any more"


async def test_what_it_resumes_says_nothing_about_how_fast_tracks_are_made(
    bench: Bench, long: LongGenerator, no_backoff: None
) -> None:
    made = await bench.create(await bench.account(), duration_s=LONG_S)
    async with bench.working() as worker:
        await bench.until(made.id)
        assert worker._throughput.as_capacity()["tiny"]["steps_per_s"] is None
        whole = await bench.create(await bench.account(), duration_s=LONG_S)
        await bench.until(whole.id)
        assert worker._throughput.as_capacity()["tiny"]["steps_per_s"] is not None


async def test_each_attempt_goes_on_where_the_one_before_ended(
    bench: Bench, long: LongGenerator, no_backoff: None
) -> None:
    long.lost = 2
    made = await bench.create(await bench.account(), duration_s=LONG_S, num_tracks=1)
    async with bench.working():
        view = await bench.until(made.id)
    assert (view.state, view.attempt) == (State.SUCCEEDED, 3)
    assert [each.resumes for each in long.requests] == [None, codes(900), codes(900)]


async def test_without_what_valkey_kept_it_begins_anew(bench: Bench, long: LongGenerator, no_backoff: None) -> None:
    async def forget(index: int) -> None:
        if index == 5:
            await bench.cache.redis.delete(keys.codes_key(bench.cache, made.id, 0))

    long.pace = forget
    made = await bench.create(await bench.account(), duration_s=LONG_S)
    async with bench.working():
        view = await bench.until(made.id)
    assert (view.state, view.attempt) == (State.SUCCEEDED, 2)
    assert [each.resumes for each in long.requests] == [None, None]


async def test_a_track_of_one_window_is_made_from_its_beginning(
    bench: Bench, long: LongGenerator, no_backoff: None
) -> None:
    made = await bench.create(await bench.account(), duration_s=24.0)
    async with bench.working():
        view = await bench.until(made.id)
    assert (view.state, view.attempt) == (State.SUCCEEDED, 2)
    assert [each.resumes for each in long.requests] == [None, None]
