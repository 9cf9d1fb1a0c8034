"""The replica's class without Serve around it: what it owes, and how it says that its engine is dead."""

from __future__ import annotations

import gc
import uuid
import weakref
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from api.telemetry.catalogue import metric
from deployments.generator import MusicGenerator
from models.errors import CheckpointError, EngineDeadError, EngineOverloadedError, InvalidRequestError
from models.types import AudioChunk, AudioPrompt, GenerationRequest


def request(duration_s: float) -> GenerationRequest:
    return GenerationRequest(uuid.uuid4().hex, "a tune", duration_s)


@pytest.fixture
def generator(checkpoint: Path) -> Iterator[MusicGenerator]:
    replica = MusicGenerator("tiny", str(checkpoint), {"max_rows": 4, "num_threads": 1})
    yield replica
    replica.__del__()


async def test_the_backlog_is_what_was_admitted_and_not_made(generator: MusicGenerator) -> None:
    idle = await generator.record_autoscaling_stats()
    assert idle.pop("startup_s") > 0
    assert set(idle.values()) == {0.0}
    chunks = cast(AsyncGenerator[AudioChunk, None], generator.generate(request(5.0)))
    first = await anext(chunks)
    owed = await generator.record_autoscaling_stats()
    assert owed["backlog_audio_s"] == owed["running_audio_s"] == pytest.approx(5.0 - first.duration_s)
    assert owed["streams"] == 1
    await chunks.aclose()
    left = await generator.record_autoscaling_stats()
    assert (left["backlog_audio_s"], left["running_audio_s"], left["streams"]) == (0.0, 0.0, 0.0)
    assert all(isinstance(value, float) for value in left.values())  # Serve drops a replica that reports anything else


async def test_a_start_is_told_stage_by_stage(generator: MusicGenerator) -> None:
    stages = generator.start.stages
    assert tuple(stages) == metric("tutti_replica_startup_seconds").allowed("stage")
    assert (await generator.record_autoscaling_stats())["startup_s"] == pytest.approx(sum(stages.values()))


async def test_a_refused_request_owes_nothing(generator: MusicGenerator) -> None:
    with pytest.raises(InvalidRequestError):
        await anext(aiter(generator.generate(request(1000.0))))
    assert (await generator.record_autoscaling_stats())["backlog_audio_s"] == 0.0


class Watched(AudioPrompt):
    """One that can be seen to go."""


async def test_sound_is_let_go_of_as_soon_as_it_is_encoded(generator: MusicGenerator) -> None:
    """It may be 15 MB, and its track may take minutes. What log lines need of the request stays."""
    sound = Watched(bytes(4 * 32_000), 1, 32_000)
    gone = weakref.ref(sound)
    wanted = replace(request(3.0), continues=sound)
    track = wanted.request_id
    chunks = cast(AsyncGenerator[AudioChunk, None], generator.generate(wanted))
    del sound, wanted
    await anext(chunks)
    gc.collect()
    assert gone() is None
    assert generator._backlog.prompts() == ["a tune"]
    assert generator._backlog.ids(track)["track"] == track
    await chunks.aclose()
    assert generator._backlog.prompts() == []


async def test_a_request_of_a_newer_version_is_for_another_replica(generator: MusicGenerator) -> None:
    """What it does not know it would leave out, and the music would be another. It owes nothing for it."""
    newer = request(5.0)
    values, droppable = cast(Any, newer).__getstate__()
    cast(Any, newer).__setstate__(({**values, "echo": "hall"}, droppable))
    with pytest.raises(EngineOverloadedError, match=r"older version.*echo") as refused:
        await anext(aiter(generator.generate(newer)))
    assert refused.value.retry_after_s > 0
    assert (await generator.record_autoscaling_stats())["backlog_audio_s"] == 0.0


async def test_a_dead_engine_fails_the_health_check_and_every_request(generator: MusicGenerator) -> None:
    generator.check_health()
    generator.__del__()  # as Serve does when it stops the replica
    with pytest.raises(EngineDeadError):
        generator.check_health()
    with pytest.raises(EngineDeadError):
        await anext(aiter(generator.generate(request(1.0))))


def test_a_broken_checkpoint_is_named_by_the_constructor(broken_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="decader"):
        MusicGenerator("tiny", str(broken_checkpoint), {})
