"""A generation that goes on from an upload or from an earlier track: what it may, and what reaches the replica."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import httpx2
import numpy as np
import pytest
import soundfile
from fastapi import FastAPI

from models.types import AudioPrompt
from tests.api.fakes import SAMPLE_RATE, FakeGenerator, sine
from tests.api.platform import Platform

URL = "/api/v1/generate"
BODY: dict[str, Any] = {"prompt": "a calm tune", "duration": 1.0}
WAIT = {"Prefer": "wait=30"}


@pytest.fixture(autouse=True)
def models(app: FastAPI) -> None:
    """The models there are can encode audio."""
    known = app.state.services.generations._models
    known.update({name: replace(spec, goes_on_from_audio=True) for name, spec in known.items()})


async def uploaded(client: httpx2.AsyncClient, samples: Any, rate: int) -> str:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    headers = {"Content-Type": "audio/wav"}
    answer = await client.post("/api/v1/audio/uploads", content=file.getvalue(), headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def test_an_earlier_track_is_what_the_replica_goes_on_from(
    client: httpx2.AsyncClient, app: FastAPI, generator: FakeGenerator
) -> None:
    first = (await client.post(URL, json={**BODY, "duration": 0.5, "seed": 4}, headers=WAIT)).json()
    track = first["tracks"][0]["id"]
    answer = await client.post(URL, json={**BODY, "num_tracks": 2, "continuation": track}, headers=WAIT)
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded"), answer.text
    assert answer.json()["parameters"]["continuation"] == track
    made, one, other = generator.requests
    assert made.continues is None
    assert one.continues == other.continues
    assert isinstance(one.continues, AudioPrompt)
    assert (one.continues.channels, one.continues.sample_rate) == (1, SAMPLE_RATE)
    np.testing.assert_array_equal(np.frombuffer(one.continues.pcm, "<f4")[:, None], sine(4, SAMPLE_RATE // 2))
    view = await app.state.services.generations.snapshot(answer.json()["id"])
    assert view.cost_steps == 2 * (50 - 25 + 3)  # what is known takes none


async def test_an_upload_comes_at_the_models_rate(client: httpx2.AsyncClient, generator: FakeGenerator) -> None:
    time_s = np.arange(24_000) / 48_000
    upload = await uploaded(client, np.stack([np.sin(900 * time_s), np.cos(900 * time_s)], 1) / 2, 48_000)
    answer = await client.post(URL, json={**BODY, "continuation": upload}, headers=WAIT)
    assert answer.json()["state"] == "succeeded", answer.text
    prompt = generator.requests[-1].continues
    assert isinstance(prompt, AudioPrompt)
    assert (prompt.channels, prompt.sample_rate, prompt.num_samples) == (2, SAMPLE_RATE, 16_000)
    samples, time_s = np.frombuffer(prompt.pcm, "<f4").reshape(-1, 2), np.arange(16_000) / SAMPLE_RATE
    clean = np.stack([np.sin(900 * time_s), np.cos(900 * time_s)], 1) / 2
    assert np.abs(samples - clean)[500:-500].max() < 1e-3


async def test_what_is_another_accounts_is_not_there(
    client: httpx2.AsyncClient, app: FastAPI, generator: FakeGenerator
) -> None:
    upload = await uploaded(client, np.zeros(8_000), 8_000)
    track = (await client.post(URL, json=BODY, headers=WAIT)).json()["tracks"][0]["id"]
    platform = Platform(app, {"tiny": generator})
    headers = {"Authorization": f"Bearer {await platform.key(await platform.account())}"}
    for mine in (upload, track):
        answer = await client.post(URL, json={**BODY, "duration": 2, "continuation": mine}, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "audio_not_found")
    assert len(generator.requests) == 1


async def test_what_can_not_be_gone_on_from_is_refused_at_the_door(
    client: httpx2.AsyncClient, app: FastAPI, generator: FakeGenerator
) -> None:
    long = await uploaded(client, np.zeros(30 * 8_000 + 200), 8_000)
    short = await uploaded(client, np.zeros(8_000), 8_000)
    refusals: list[tuple[dict[str, Any], int, str, str | None]] = [
        ({"continuation": long, "duration": 30}, 422, "invalid_parameter", "continuation"),
        ({"continuation": short}, 422, "invalid_parameter", "duration"),
        ({"continuation": "trk_0123456789abcdef01234567"}, 404, "audio_not_found", None),
        ({"continuation": short, "melody": short, "duration": 2}, 422, "conditioning_unsupported", "melody"),
    ]
    for more, status, code, param in refusals:
        answer = await client.post(URL, json={**BODY, **more})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (status, code), (more, answer.text)
        assert param is None or error["param"] == param
    known = app.state.services.generations._models
    known.update({name: replace(spec, goes_on_from_audio=False) for name, spec in known.items()})
    answer = await client.post(URL, json={**BODY, "continuation": short, "duration": 2})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "conditioning_unsupported")
    assert generator.requests == []
