"""``/api/v1/generate`` over HTTP, with a worker behind it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from pydantic import create_model

from api.routes.generations import _wait_s
from api.schemas.generate import GenerateBody, MusicBody
from api.schemas.generation_body import GenerationBody
from tests.api.fakes import FakeGenerator

URL = "/api/v1/generate"
BODY: dict[str, Any] = {"prompt": "a calm tune", "duration": 0.5}
WAIT = {"Prefer": "wait=30"}


async def test_it_is_accepted_and_every_url_is_in_the_answer(
    client: httpx2.AsyncClient, generator: FakeGenerator
) -> None:
    generator.hold(0)
    answer = await client.post(URL, json={**BODY, "num_tracks": 2, "seed": 7, "format": "flac"})
    seen = answer.json()
    assert answer.status_code == 202
    here = f"{URL}/{seen['id']}"
    assert answer.headers["location"] == here
    assert seen["links"] == {
        "self": here,
        "events": f"{here}/events",
        "audio": [f"{here}/audio?track={position}&format=flac" for position in (0, 1)],
        "cancel": f"{here}/cancel",
    }
    assert [track["seed"] for track in seen["tracks"]] == [7, 8]
    assert seen["error"] is None
    generator.gates[0].set()
    assert (await client.get(here, headers=WAIT)).json()["state"] == "succeeded"


async def test_prefer_wait_answers_with_the_result(client: httpx2.AsyncClient) -> None:
    answer = await client.post(URL, json=BODY, headers=WAIT)
    seen = answer.json()
    assert (answer.status_code, seen["state"], answer.headers["preference-applied"]) == (200, "succeeded", "wait=30")
    (track,) = seen["tracks"]
    assert (track["duration"], track["sample_rate"], track["channels"], track["total_samples"]) == (
        0.5,
        32000,
        1,
        16000,
    )
    assert seen["real_time_factor"] > 0
    assert seen["queue_wait_s"] >= 0
    assert seen["links"]["cancel"] is None


async def test_the_parameters_sent_again_make_the_same_audio(client: httpx2.AsyncClient) -> None:
    first = (await client.post(URL, json={**BODY, "num_tracks": 2, "temperature": 0.5}, headers=WAIT)).json()
    again = (await client.post(URL, json=first["parameters"], headers=WAIT)).json()
    assert again["id"] != first["id"]
    assert [each["sha256"] for each in again["tracks"]] == [each["sha256"] for each in first["tracks"]]
    GenerationBody.model_validate(first["parameters"])


async def test_a_wait_that_is_too_short_answers_with_what_there_is(
    client: httpx2.AsyncClient, generator: FakeGenerator
) -> None:
    gate = generator.hold(0)
    answer = await client.post(URL, json=BODY, headers={"Prefer": "wait=0"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=0")
    gate.set()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("wait=5", 5.0),
        ("respond-async, wait=10", 10.0),
        ('wait="7"; foo', 7.0),
        ("WAIT = 3", 3.0),
        ("wait=999999", 60.0),
        ("wait=-1", None),
        ("wait=soon", None),
        ("await=5", None),
        ("wait=5s", None),
    ],
)
def test_what_wait_means(header: str | None, seconds: float | None) -> None:
    assert _wait_s(header) == seconds


async def test_a_key_sent_twice_makes_one(client: httpx2.AsyncClient, generator: FakeGenerator) -> None:
    headers = {"Idempotency-Key": "k1", **WAIT}
    first, again = [await client.post(URL, json=BODY, headers=headers) for _ in range(2)]
    assert (first.json()["id"], first.status_code) == (again.json()["id"], again.status_code)
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
    assert generator.started == 1


async def test_a_default_spelt_out_is_the_same_request(client: httpx2.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = await client.post(URL, json=BODY, headers=headers)
    again = await client.post(URL, json={**BODY, "num_tracks": 1, "top_k": 250}, headers=headers)
    other = await client.post(URL, json={**BODY, "num_tracks": 2}, headers=headers)
    assert first.json()["id"] == again.json()["id"]
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("known", [GenerateBody, GenerationBody])
def test_a_key_sent_again_to_a_newer_version_is_the_same_request(known: type[MusicBody]) -> None:
    """While one version takes the place of another, a client's second try may meet either."""
    newer = create_model("newer", __base__=known, tempo=(int | None, None))
    asked = {**BODY, "metadata": {"scene": 3}}
    assert newer(**asked).asked() == known(**asked).asked()
    assert newer.model_validate({**asked, "tempo": 90}).asked() != known(**asked).asked()


@pytest.mark.parametrize("key", ["", "with space", "x" * 256])
async def test_a_key_that_is_none_is_refused(client: httpx2.AsyncClient, key: str) -> None:
    answer = await client.post(URL, json=BODY, headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "Idempotency-Key")


# ------------------------------------------------------------------------------------------------ cancel
async def test_cancelling_what_runs(client: httpx2.AsyncClient, generator: FakeGenerator) -> None:
    generator.hold(1)
    made = (await client.post(URL, json=BODY)).json()
    async with asyncio.timeout(30):
        await generator.reached[1].wait()
    answer = await client.post(made["links"]["cancel"], headers=WAIT)
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert generator.closed == 1
    again = await client.post(made["links"]["cancel"])
    assert (again.status_code, again.json()["state"]) == (200, "cancelled")


async def test_what_has_ended_can_not_be_cancelled(client: httpx2.AsyncClient) -> None:
    made = (await client.post(URL, json=BODY, headers=WAIT)).json()
    answer = await client.post(f"{made['links']['self']}/cancel")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "generation_ended")
    assert answer.json()["error"]["details"] == {"state": "succeeded"}


# ------------------------------------------------------------------------------------------------ refused
@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": "  "}, "prompt"),
        ({"duration": 31.0}, "duration"),
        ({"duration": "long"}, "duration"),
        ({"num_tracks": 0}, "num_tracks"),
        ({"num_tracks": 9}, "num_tracks"),
        ({"num_tracks": 65}, "num_tracks"),
        ({"seed": -1}, "seed"),
        ({"format": "aiff"}, "format"),
        ({"melody": "../etc"}, "melody"),
        ({"melody": "trk_0123456789abcdef01234567"}, "melody"),
        ({"continuation": "upl_0123456789abcdef01234567"}, "continuation"),
        ({"campaign_id": "two\nlines"}, "campaign_id"),
        ({"collection": "x" * 201}, "collection"),
        ({"metadata": {"a": "\0"}}, "metadata.a"),
        ({"metadata": {"a": "cut in two \ud83d"}}, "metadata.a"),
        ({"metadata": {"a": [1]}}, "metadata.a"),
        ({"metadata": {"a": 2**60}}, "metadata.a"),
        ({"metadata": {str(i): 1 for i in range(51)}}, "metadata"),
        ({"webhook_url": "http://127.0.0.1/"}, "webhook_url"),
        ({"unknown": 1}, "unknown"),
    ],
    ids=str,
)
async def test_what_can_not_be_had_is_named(
    client: httpx2.AsyncClient, generator: FakeGenerator, change: dict[str, Any], param: str | None
) -> None:
    answer = await client.post(
        URL, content=json.dumps({**BODY, **change}), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422, answer.text
    assert param is None or answer.json()["error"]["param"] == param
    assert generator.started == 0


async def test_an_unknown_model_is_not_found(client: httpx2.AsyncClient) -> None:
    answer = await client.post(URL, json={**BODY, "model": "huge"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_one_that_is_not_there(client: httpx2.AsyncClient, method: str) -> None:
    path = f"{URL}/gen_{'0' * 24}" + ("/cancel" if method == "POST" else "")
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "generation_not_found")


async def test_an_id_of_another_form_is_refused(client: httpx2.AsyncClient) -> None:
    assert (await client.get(f"{URL}/gen_x")).status_code == 422


async def test_labels_and_metadata_come_back(client: httpx2.AsyncClient) -> None:
    said = {"campaign_id": "c", "client_id": "d", "brief_id": "e", "collection": "f"}
    values = {"n": 1, "x": 0.5, "yes": True, "text": "ü"}
    seen = (await client.post(URL, json={**BODY, **said, "metadata": values})).json()
    assert {name: seen[name] for name in said} == said
    assert seen["metadata"] == values
