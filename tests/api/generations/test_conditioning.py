"""A generation that refers to an upload or to an earlier track: what it may, and what reaches the replica."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx2
import numpy as np
import pytest
import soundfile
from fastapi import FastAPI
from sqlalchemy import select, update

from api.clock import utc_now
from api.store.schema import uploads
from models.types import AudioPrompt
from tests.api.fakes import SAMPLE_RATE, FakeGenerator, sine
from tests.api.platform import Platform
from tests.api.storage.rows import add_track

URL = "/api/v1/generate"
BODY: dict[str, Any] = {"prompt": "a calm tune", "duration": 1.0}
WAIT = {"Prefer": "wait=30"}


@pytest.fixture(autouse=True)
def models(app: FastAPI) -> None:
    """The models there are can encode audio and follow melodies, for a minute."""
    change(app, goes_on_from_audio=True, takes_melody=True, max_duration_s=60.0)


def change(app: FastAPI, **values: Any) -> None:
    known = app.state.services.generations._models
    known.update({name: replace(spec, **values) for name, spec in known.items()})


def noise(seconds: float, rate: int, channels: int = 1) -> Any:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (int(seconds * rate), channels))


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
    assert view.cost_steps == 2 * (9 + 50 - 25 + 3)  # a melody's prefix and what is known, 32 positions at a time


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
    upload = await uploaded(client, noise(1, 8_000), 8_000)
    track = (await client.post(URL, json=BODY, headers=WAIT)).json()["tracks"][0]["id"]
    platform = Platform(app, {"tiny": generator})
    headers = {"Authorization": f"Bearer {await platform.key(await platform.account())}"}
    for mine in (upload, track):
        for use in ("continuation", "melody"):
            answer = await client.post(URL, json={**BODY, "duration": 2, use: mine}, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "audio_not_found")
    assert len(generator.requests) == 1


async def test_a_melody_is_heard_in_mono_at_the_models_rate(
    client: httpx2.AsyncClient, generator: FakeGenerator
) -> None:
    time_s = np.arange(24_000) / 48_000
    upload = await uploaded(client, np.stack([np.sin(900 * time_s), np.zeros(24_000)], 1), 48_000)
    body = {**BODY, "num_tracks": 2, "melody": upload}
    made = (await client.post(URL, json=body, headers=WAIT)).json()
    assert made["state"] == "succeeded", made
    assert made["parameters"]["melody"] == upload
    assert made["melody"] == {"duration": 0.5, "source_separation": "none"}
    one, other = generator.requests
    assert one.continues is None
    assert one.melody == other.melody
    assert isinstance(one.melody, AudioPrompt)
    assert (one.melody.channels, one.melody.sample_rate, one.melody.num_samples) == (1, SAMPLE_RATE, 16_000)
    clean = np.sin(900 * np.arange(16_000) / SAMPLE_RATE) / 2
    assert np.abs(np.frombuffer(one.melody.pcm, "<f4") - clean)[500:-500].max() < 1e-3
    again = (await client.post(URL, json=made["parameters"], headers=WAIT)).json()
    assert [each["sha256"] for each in again["tracks"]] == [each["sha256"] for each in made["tracks"]]


async def test_a_long_melody_is_sent_as_far_as_it_is_heard(
    client: httpx2.AsyncClient, generator: FakeGenerator
) -> None:
    upload = await uploaded(client, noise(40, 8_000), 8_000)
    made = (await client.post(URL, json={**BODY, "melody": upload}, headers=WAIT)).json()
    assert made["melody"]["duration"] == 32.0
    melody = generator.requests[0].melody
    assert isinstance(melody, AudioPrompt)
    assert melody.num_samples == 32 * SAMPLE_RATE


async def test_a_stream_takes_audio_a_stride_and_labels_as_well(
    client: httpx2.AsyncClient, generator: FakeGenerator
) -> None:
    melody, beginning = [await uploaded(client, noise(seconds, SAMPLE_RATE), SAMPLE_RATE) for seconds in (1, 0.5)]
    body = {"prompt": "x", "duration": 30.5, "extend_stride": 12, "melody": melody, "continuation": beginning}
    answer = await client.post(f"{URL}/stream", json={**body, "campaign_id": "c", "metadata": {"n": 1}})
    assert answer.status_code == 200, answer.text
    assert len(answer.content) == 44 + 2 * int(30.5 * SAMPLE_RATE)
    (request,) = generator.requests
    assert request.extend_stride_s == 12.0
    heard = [sound.num_samples for sound in (request.melody, request.continues) if isinstance(sound, AudioPrompt)]
    assert heard == [SAMPLE_RATE, SAMPLE_RATE // 2]
    kept = (await client.get(f"{URL}/{answer.headers['x-generation-id']}")).json()
    assert (kept["campaign_id"], kept["metadata"]) == ("c", {"n": 1})
    named = {name: kept["parameters"][name] for name in ("melody", "continuation", "extend_stride")}
    assert named == {"melody": melody, "continuation": beginning, "extend_stride": 12.0}


async def test_a_stride_counts_with_the_steps_it_costs(
    client: httpx2.AsyncClient, app: FastAPI, generator: FakeGenerator
) -> None:
    generator.hold(0)
    steps = []
    for more in ({}, {"extend_stride": 5.0}):
        made = (await client.post(URL, json={"prompt": "x", "duration": 60, **more})).json()
        assert made["parameters"]["extend_stride"] == more.get("extend_stride")
        view = await app.state.services.generations.snapshot(made["id"])
        steps.append(view.cost_steps)
    generator.gates[0].set()
    # Windows of 30, 30, 24 s, and of 30 s every 5 until one ends at 60.
    assert steps == [3000 + 3 * 3 + 8 + 2 * 27, 3000 + 7 * 3 + 8 + 6 * 47]


REFUSALS: list[tuple[dict[str, Any], int, str, str | None]] = [
    ({"continuation": "long", "duration": 30}, 422, "invalid_parameter", "continuation"),
    ({"continuation": "short"}, 422, "invalid_parameter", "duration"),
    ({"continuation": "short", "melody": "endless", "duration": 2}, 422, "invalid_parameter", "melody"),
    ({"melody": "silent"}, 422, "invalid_parameter", "melody"),
    ({"style": "short"}, 422, "conditioning_unsupported", "style"),
    ({"melody": "trk_0123456789abcdef01234567"}, 404, "audio_not_found", None),
    ({"continuation": "trk_0123456789abcdef01234567"}, 404, "audio_not_found", None),
    ({"melody": "tune.wav"}, 422, "invalid_parameter", "melody"),
    ({"duration": 60, "extend_stride": 4.99}, 422, "invalid_parameter", "extend_stride"),
    ({"duration": 60, "extend_stride": 30}, 422, "invalid_parameter", "extend_stride"),
    ({"duration": 60, "extend_stride": "18"}, 422, "invalid_parameter", "extend_stride"),
    ({"duration": 30, "extend_stride": 18}, 422, "invalid_parameter", "extend_stride"),
]


@pytest.mark.parametrize("path", [URL, f"{URL}/stream"])
async def test_what_can_not_be_had_is_refused_at_the_door(
    client: httpx2.AsyncClient, app: FastAPI, generator: FakeGenerator, path: str
) -> None:
    sounds = {"long": noise(30.025, 8_000), "short": noise(1, 8_000)}
    ids = {name: await uploaded(client, samples, 8_000) for name, samples in sounds.items()}
    services = app.state.services
    owner = (await client.get("/api/v1/user/profile")).json()["id"]
    for name, samples in {"endless": np.ones((121 * SAMPLE_RATE, 1)), "silent": np.zeros((SAMPLE_RATE, 1))}.items():
        ids[name] = await add_track(services.db, owner, library=services.audio, samples=samples.astype("<f4"))
    for more, status, code, param in REFUSALS:
        asked = {name: ids.get(value, value) if isinstance(value, str) else value for name, value in more.items()}
        answer = await client.post(path, json={**BODY, **asked})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (status, code), (more, answer.text)
        assert param is None or error["param"] == param
    change(app, goes_on_from_audio=False, takes_melody=False)
    for use in ("continuation", "melody"):
        answer = await client.post(path, json={**BODY, use: ids["short"], "duration": 2})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (422, "conditioning_unsupported", use)
    assert generator.requests == []


@pytest.mark.parametrize("wrong", [2, 0, True, "1"])
async def test_a_stream_is_one_track(client: httpx2.AsyncClient, generator: FakeGenerator, wrong: object) -> None:
    answer = await client.post(f"{URL}/stream", json={**BODY, "num_tracks": wrong})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "num_tracks")
    assert wrong != 2 or "POST /api/v1/generate makes several" in answer.json()["error"]["message"]
    assert generator.requests == []


async def test_a_melody_that_was_removed_meanwhile_fails_the_generation(
    client: httpx2.AsyncClient, app: FastAPI, generator: FakeGenerator
) -> None:
    upload = await uploaded(client, noise(0.5, 8_000), 8_000)
    services = app.state.services
    async with services.db.read() as conn:
        row = (await conn.execute(select(uploads.c.object_key).where(uploads.c.id == upload))).one()
    await services.audio.delete(row.object_key)
    made = (await client.post(URL, json={**BODY, "melody": upload}, headers=WAIT)).json()
    assert (made["state"], made["error"]["message"]) == ("failed", "the melody was deleted")
    assert generator.requests == []


async def test_a_melody_whose_channels_cancel_out_is_not_played_as_silence(
    client: httpx2.AsyncClient, generator: FakeGenerator
) -> None:
    side = noise(0.5, 8_000)
    upload = await uploaded(client, np.hstack([side, -side]), 8_000)
    made = (await client.post(URL, json={**BODY, "melody": upload}, headers=WAIT)).json()
    assert made["state"] == "failed"
    assert "two channels cancel out" in made["error"]["message"]
    assert generator.requests == []


async def test_an_upload_stays_as_long_as_what_was_accepted_may_wait(
    client: httpx2.AsyncClient, app: FastAPI, generator: FakeGenerator
) -> None:
    generator.hold(0)
    services, now = app.state.services, utc_now()
    ends = {await uploaded(client, noise(0.5, 8_000), 8_000): now + timedelta(seconds=s) for s in (60, 10**6)}
    async with services.db.begin() as conn:
        for upload, end in ends.items():
            await conn.execute(update(uploads).where(uploads.c.id == upload).values(expires_at=end))
    soon, late = ends
    made = (await client.post(URL, json={**BODY, "melody": soon, "continuation": late})).json()
    generator.gates[0].set()
    async with services.db.read() as conn:
        left = {row.id: row.expires_at for row in await conn.execute(select(uploads.c.id, uploads.c.expires_at))}
    assert left[soon] > datetime.fromisoformat(made["expires_at"])
    assert left[late] == ends[late]
