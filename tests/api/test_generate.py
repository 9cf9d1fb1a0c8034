"""The streaming route: what is asked for reaches the model, what it makes reaches the client.

Through everything that lies between: SQL, a worker, Valkey, storage.
"""

from __future__ import annotations

import io
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import httpx2
import numpy as np
import pytest
import soundfile

from api.schemas.generate import DEFAULT_DURATION_S
from models.types import SamplingParams
from tests.api.asgi import STREAM
from tests.api.fakes import SAMPLE_RATE, FakeGenerator, sine
from tests.api.streams.stage import Stage

PROMPT = "calm solo piano, slow"

MakeClient = Callable[..., Awaitable[httpx2.AsyncClient]]


@pytest.fixture
async def make_client(make_stage: Callable[..., Awaitable[Stage]]) -> AsyncIterator[MakeClient]:
    """A client of a gateway whose worker runs; arguments are the generators, keywords settings."""
    async with AsyncExitStack() as stack:

        async def make(*generators: FakeGenerator, **settings: str) -> httpx2.AsyncClient:
            stage = await make_stage(*generators, **settings)
            await stack.enter_async_context(stage.working())
            return await stack.enter_async_context(stage.client())

        yield make


@pytest.fixture
async def client(make_client: MakeClient, generator: FakeGenerator) -> httpx2.AsyncClient:
    return await make_client(generator)


def expected(seed: int, seconds: float, channels: int = 1) -> np.ndarray[tuple[int, int], np.dtype[np.int16]]:
    return np.rint(sine(seed, int(seconds * SAMPLE_RATE), channels) * 32767).astype("<i2")


async def test_wav_is_whole_and_exact_from_the_first_byte(client: httpx2.AsyncClient) -> None:
    answer = await client.post(STREAM, json={"prompt": PROMPT, "duration": 1.0, "seed": 5})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/wav"
    assert int(answer.headers["content-length"]) == len(answer.content) == 44 + 2 * SAMPLE_RATE
    assert struct.unpack("<I", answer.content[4:8])[0] == len(answer.content) - 8
    samples, rate = soundfile.read(io.BytesIO(answer.content), dtype="int16", always_2d=True)
    assert rate == SAMPLE_RATE
    assert np.array_equal(samples, expected(5, 1.0))


async def test_headers_tell_what_is_made(client: httpx2.AsyncClient) -> None:
    answer = await client.post(STREAM, json={"prompt": PROMPT, "duration": 1.25, "seed": 5})
    assert answer.headers["x-generation-id"].startswith("gen_")
    assert answer.headers["x-request-id"].startswith("req_")
    told = {name: answer.headers[name] for name in ("x-model", "x-seed", "x-sample-rate", "x-channels")}
    assert told == {"x-model": "tiny", "x-seed": "5", "x-sample-rate": "32000", "x-channels": "1"}
    assert float(answer.headers["x-audio-duration"]) == 1.24  # 62 whole frames of 20 ms


async def test_pcm_stereo_is_raw_and_interleaved(make_client: MakeClient) -> None:
    client = await make_client(FakeGenerator(channels=2))
    answer = await client.post(STREAM, json={"prompt": PROMPT, "duration": 0.6, "seed": 2, "format": "pcm"})
    assert answer.headers["content-type"] == "audio/pcm;rate=32000;channels=2;encoding=s16le"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.content == expected(2, 0.6, 2).tobytes()


async def test_flac_carries_the_same_samples(client: httpx2.AsyncClient) -> None:
    answer = await client.post(STREAM, json={"prompt": PROMPT, "duration": 1.1, "seed": 3, "format": "flac"})
    assert answer.headers["content-type"] == "audio/flac"
    samples, _ = soundfile.read(io.BytesIO(answer.content), dtype="int16", always_2d=True)
    assert np.array_equal(samples, expected(3, 1.1))


async def test_mp3_sounds_the_same(client: httpx2.AsyncClient) -> None:
    answer = await client.post(STREAM, json={"prompt": PROMPT, "duration": 1.1, "seed": 3, "format": "mp3"})
    assert answer.headers["content-type"] == "audio/mpeg"
    samples, rate = soundfile.read(io.BytesIO(answer.content), dtype="float32")
    wanted = sine(3, int(1.1 * SAMPLE_RATE))[:, 0]
    assert (rate, len(samples)) == (SAMPLE_RATE, len(wanted))
    assert np.corrcoef(samples, wanted)[0, 1] > 0.999


async def test_a_seed_is_minted_told_and_makes_the_same_audio_again(client: httpx2.AsyncClient) -> None:
    first = await client.post(STREAM, json={"prompt": PROMPT, "duration": 0.5})
    again = await client.post(STREAM, json={"prompt": PROMPT, "duration": 0.5, "seed": int(first.headers["x-seed"])})
    other = await client.post(STREAM, json={"prompt": PROMPT, "duration": 0.5})
    assert again.content == first.content
    assert other.headers["x-seed"] != first.headers["x-seed"]


async def test_every_parameter_reaches_the_model(client: httpx2.AsyncClient, generator: FakeGenerator) -> None:
    sampling = {"guidance": 2, "temperature": 0.5, "top_k": 7, "top_p": 0.9, "greedy": True}
    await client.post(STREAM, json={"prompt": PROMPT, "duration": 2, "seed": 2**63 - 1, **sampling})
    [request] = generator.requests
    assert (request.prompt, request.duration_s, request.seed) == (PROMPT, 2.0, 2**63 - 1)
    assert request.sampling == SamplingParams(guidance=2, temperature=0.5, top_k=7, top_p=0.9, greedy=True)


async def test_defaults_are_the_vocabularys(client: httpx2.AsyncClient, generator: FakeGenerator) -> None:
    await client.post(STREAM, json={"prompt": PROMPT})
    assert generator.requests[0].sampling == SamplingParams()
    assert generator.requests[0].duration_s == DEFAULT_DURATION_S


async def test_the_default_model_is_the_first_or_the_configured_one(make_client: MakeClient) -> None:
    async def model_of(body: dict[str, str], **settings: str) -> str:
        client = await make_client(FakeGenerator(), FakeGenerator(), **settings)
        answer = await client.post(STREAM, json={"prompt": PROMPT, "duration": 0.5, **body})
        return str(answer.headers["x-model"])

    assert await model_of({}) == "tiny"
    assert await model_of({"model": "small"}) == "small"
    assert await model_of({}, default_model="small") == "small"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "audio/wav"),
        ("", "audio/wav"),
        ("*/*", "audio/wav"),
        ("audio/*", "audio/wav"),
        ("audio/flac", "audio/flac"),
        ("audio/x-wav", "audio/wav"),
        ("audio/mpeg;q=0.4, audio/flac;q=0.8", "audio/flac"),
        ("AUDIO/MPEG", "audio/mpeg"),
        ("audio/wav;q=0, audio/*;q=0.1", "audio/flac"),
        ("text/html, audio/pcm;q=0.2", "audio/pcm"),
        ("audio/wav;q=high, audio/mp3", "audio/mpeg"),
    ],
)
async def test_accept_chooses_the_format(client: httpx2.AsyncClient, accept: str | None, media_type: str) -> None:
    client.headers.pop("accept")
    headers = {} if accept is None else {"accept": accept}
    answer = await client.post(STREAM, json={"prompt": PROMPT, "duration": 0.3}, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] == media_type


async def test_the_body_wins_over_accept(client: httpx2.AsyncClient) -> None:
    body = {"prompt": PROMPT, "duration": 0.3, "format": "flac"}
    answer = await client.post(STREAM, json=body, headers={"accept": "application/json"})
    assert answer.headers["content-type"] == "audio/flac"


@pytest.mark.parametrize("prompt", ["ピアノ、静か", "line one\nline two\ttab", "🎹", "x" * 2000, "1"])
async def test_any_text_is_a_prompt(client: httpx2.AsyncClient, generator: FakeGenerator, prompt: str) -> None:
    answer = await client.post(STREAM, json={"prompt": prompt, "duration": 0.3})
    assert answer.status_code == 200
    assert generator.requests[0].prompt == prompt


async def test_a_stream_is_a_generation_like_any_other(client: httpx2.AsyncClient) -> None:
    answer = await client.post(STREAM, json={"prompt": PROMPT, "duration": 0.5, "seed": 4, "format": "flac"})
    name = answer.headers["x-generation-id"]
    seen = (await client.get(f"/api/v1/generate/{name}", headers={"prefer": "wait=30"})).json()
    assert (seen["state"], seen["mode"], seen["parameters"]["seed"]) == ("succeeded", "stream", 4)
    again = await client.get(seen["links"]["audio"][0])
    assert again.content == answer.content


async def test_the_same_key_streams_the_same_generation(client: httpx2.AsyncClient, generator: FakeGenerator) -> None:
    body = {"prompt": PROMPT, "duration": 0.5}
    first = await client.post(STREAM, json=body, headers={"idempotency-key": "one"})
    again = await client.post(STREAM, json=body, headers={"idempotency-key": "one"})
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-generation-id"] == first.headers["x-generation-id"]
    assert (again.content, generator.started) == (first.content, 1)


@pytest.mark.parametrize(
    ("change", "header"), [({"seed": 9}, None), ({}, "audio/flac"), ({"format": "mp3"}, None)], ids=str
)
async def test_the_same_key_for_something_else_is_refused(
    client: httpx2.AsyncClient, change: dict[str, object], header: str | None
) -> None:
    body = {"prompt": PROMPT, "duration": 0.5}
    await client.post(STREAM, json=body, headers={"idempotency-key": "one"})
    headers = {"idempotency-key": "one", **({"accept": header} if header else {})}
    answer = await client.post(STREAM, json={**body, **change}, headers=headers)
    assert (answer.status_code, answer.headers["x-error-code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("body", [{"duration": 601}, {"duration": 0.001}, {"model": "none"}, {"num_tracks": 2}])
async def test_what_can_not_be_made_is_refused_at_once(
    client: httpx2.AsyncClient, generator: FakeGenerator, body: dict[str, object]
) -> None:
    answer = await client.post(STREAM, json={"prompt": PROMPT, **body})
    assert answer.status_code in (404, 422)
    assert generator.started == 0
