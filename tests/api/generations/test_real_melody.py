"""From a file of any rate to music that follows it, and from a track to one that begins with it: the routes, the
worker, the storage, and an engine with a melody model."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import soundfile

from models.catalog import ModelSpec, describe
from models.engine.async_engine import AsyncEngine
from models.engine_config import EngineConfig
from models.types import AudioChunk, AudioPrompt, CodePrompt, GenerationRequest
from tests.api.conftest import MakePlatform
from tests.api.fakes import FakeGenerator
from tests.api.generations.test_conditioning import uploaded
from tests.factories import make_checkpoint

URL = "/api/v1/generate"
BODY: dict[str, Any] = {"prompt": "a calm tune", "duration": 0.3, "seed": 5}
WAIT = {"Prefer": "wait=30"}


@dataclass
class Playing(FakeGenerator):
    """An engine where the tests' sine is otherwise."""

    engine: AsyncEngine | None = None

    async def generate(self, request: GenerationRequest) -> AsyncIterator[AudioChunk]:
        assert self.engine is not None
        self.requests.append(request)
        async for chunk in self.engine.generate(request):
            yield chunk


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("random") / "checkpoint", melody=True)


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Iterator[AsyncEngine]:
    running = AsyncEngine.from_path(checkpoint, EngineConfig(max_rows=8, num_threads=1, return_codes=True))
    yield running
    running.shutdown()


@pytest.fixture
def model(checkpoint: Path) -> ModelSpec:
    return describe(checkpoint, "tiny")


async def test_a_tune_is_heard(make_platform: MakePlatform, engine: AsyncEngine, model: ModelSpec) -> None:
    playing = Playing(engine=engine)
    platform = await make_platform(playing)
    platform.services.generations._models["tiny"] = replace(model, licence="MIT")
    assert model.takes_melody
    transport = httpx2.ASGITransport(platform.app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        tunes = [
            await uploaded(client, np.sin(2 * np.pi * hertz * np.arange(8_000) / 16_000) / 2, 16_000)
            for hertz in (220.0, 330.0)
        ]
        made = [
            (await client.post(URL, json={**BODY, **more}, headers=WAIT)).json()
            for more in ({}, {"melody": tunes[0]}, {"melody": tunes[1], "num_tracks": 2})
        ]
        assert [each["state"] for each in made] == ["succeeded"] * 3
        assert len({track["sha256"] for each in made for track in each["tracks"]}) == 4
        # Streamed, with what it goes on from as well.
        body = {**BODY, "melody": tunes[0], "continuation": made[2]["tracks"][0]["id"], "duration": 0.5}
        streamed = await client.post(f"{URL}/stream", json={**body, "format": "pcm"})
        assert len(streamed.content) == 32_000
        assert [each.melody == playing.requests[1].melody for each in playing.requests] == [
            False,
            True,
            False,
            False,
            True,
        ]


async def test_a_track_is_extended_from_its_own_codes(
    make_platform: MakePlatform, engine: AsyncEngine, model: ModelSpec
) -> None:
    playing = Playing(engine=engine)
    platform = await make_platform(playing)
    platform.services.generations._models["tiny"] = model
    transport = httpx2.ASGITransport(platform.app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:

        async def made(**more: Any) -> tuple[str, Any]:
            answer = (await client.post(URL, json={**BODY, "format": "wav32f", **more}, headers=WAIT)).json()
            assert answer["state"] == "succeeded", answer
            track = answer["tracks"][0]["id"]
            sound = await client.get(f"/api/v1/audio/{track}/data", params={"format": "wav32f"})
            return track, soundfile.read(io.BytesIO(sound.content), dtype="float32")[0]

        preview, heard = await made()
        longer, whole = await made(duration=0.6, continuation=preview)
        known = playing.requests[-1].continues
        assert isinstance(known, CodePrompt)
        assert (known.frames, known.num_codebooks) == (15, model.num_codebooks)
        # A frame sounds into those before it: the last four of the preview ended where nothing followed.
        assert np.array_equal(whole[: 11 * 640], heard[: 11 * 640])
        assert len(whole) == 30 * 640

        stored = [entry.key async for entry in platform.services.objects.listing("")]
        (of_it,) = (key for key in stored if longer in key and key.endswith(".codes"))
        await platform.services.objects.put(of_it, b"broken")
        await made(duration=0.9, continuation=longer)
        assert isinstance(playing.requests[-1].continues, AudioPrompt)
        await platform.services.objects.delete(of_it)
        await made(duration=0.9, continuation=longer)
        assert isinstance(playing.requests[-1].continues, AudioPrompt)
