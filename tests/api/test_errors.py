"""Whatever goes wrong, the answer has the same shape, says what to do, and the server goes on."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
import structlog
from fastapi import FastAPI

from api.errors import ErrorCode
from api.errors.mapping import TABLE
from api.services import Services
from api.storage.errors import SealBrokenError
from models import errors as music
from models.errors import TuttiError
from tests.api.asgi import STREAM
from tests.api.fakes import FakeGenerator

FIELDS = {"code", "message", "request_id", "type", "param", "doc_url", "retryable", "details"}
OK = {"prompt": "calm piano", "duration": 0.3}
STATUSES = {
    "invalid_request": {400, 405, 406, 409, 410, 413, 415, 416, 422},
    "authentication": {400, 401, 403},
    "not_found": {404, 410},
    "conflict": {409, 422},
    "quota": {429},
    "concurrency": {429},
    "rate_limit": {429},
    "overloaded": {503},
    "unavailable": {503, 504},
    "server_error": {500},
}


def checked(answer: httpx2.Response, status: int, code: ErrorCode, param: str | None = None) -> dict[str, Any]:
    """The error of an answer, after everything that holds for every error was looked at."""
    assert answer.status_code == status == code.status
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == FIELDS
    assert error["code"] == answer.headers["x-error-code"] == code.value
    assert error["request_id"] == answer.headers["x-request-id"]
    assert (error["param"], error["type"], error["retryable"]) == (param, code.kind, code.retryable)
    assert error["doc_url"] == f"/errors#{code.value}"
    assert error["message"]
    assert ("retry-after" in answer.headers) == (status == 503)
    return error


async def goes_on(client: httpx2.AsyncClient) -> None:
    assert (await client.post(STREAM, json=OK)).status_code == 200


BAD_VALUES = [
    ("prompt", ""),
    ("prompt", " \n\t "),
    ("prompt", "\u200b\u2060"),
    ("prompt", "x" * 2001),
    ("prompt", "piano\u0000"),
    ("prompt", "piano\u001b[31m"),
    ("prompt", "\ud800"),
    ("prompt", None),
    ("prompt", 7),
    ("prompt", ["piano"]),
    ("prompt", {"text": "piano"}),
    ("duration", 0),
    ("duration", -1),
    ("duration", float("nan")),
    ("duration", float("inf")),
    ("duration", 30.01),
    ("duration", 1e300),
    ("duration", 0.0199),
    ("duration", "10"),
    ("duration", True),
    ("seed", -1),
    ("seed", 2**63),
    ("seed", 1.0),
    ("seed", "7"),
    ("seed", True),
    ("guidance", 0),
    ("guidance", 20.5),
    ("guidance", float("nan")),
    ("temperature", -0.1),
    ("temperature", 10.1),
    ("top_k", -1),
    ("top_k", 2.5),
    ("top_k", 10**4000),
    ("top_p", 1.1),
    ("top_p", -0.1),
    ("greedy", "yes"),
    ("greedy", 1),
    ("format", "ogg"),
    ("format", "WAV"),
    ("format", 1),
    ("model", ""),
    ("model", 3),
    ("top_q", 1),
    ("prompt ", "x"),
]


@pytest.mark.parametrize(("name", "value"), BAD_VALUES, ids=lambda value: repr(value)[:24])
async def test_a_bad_value_is_named(
    client: httpx2.AsyncClient, generator: FakeGenerator, name: str, value: object
) -> None:
    answer = await client.post(
        STREAM, content=json.dumps({**OK, name: value}), headers={"content-type": "application/json"}
    )
    error = checked(answer, 422, ErrorCode.INVALID_PARAMETER, param=name)
    assert "piano\\u" not in answer.text
    assert name in error["message"]
    assert generator.started == 0
    await goes_on(client)


async def test_a_missing_prompt_is_named(client: httpx2.AsyncClient) -> None:
    error = checked(await client.post(STREAM, json={}), 422, ErrorCode.INVALID_PARAMETER, param="prompt")
    assert error["message"] == "prompt: is missing: add it"


async def test_all_that_is_wrong_is_told_at_once(client: httpx2.AsyncClient) -> None:
    answer = await client.post(STREAM, json={"prompt": "", "seed": -1, "tempo": 3})
    error = checked(answer, 422, ErrorCode.INVALID_PARAMETER, param="prompt")
    assert [item["param"] for item in error["details"]["errors"]] == ["prompt", "seed", "tempo"]


async def test_names_from_the_client_are_cut_and_few(client: httpx2.AsyncClient) -> None:
    body = {"prompt": "x", **{f"{number}\ud800" + "y" * 500: 1 for number in range(60)}}
    answer = await client.post(STREAM, content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert len(answer.content) < 12_000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"prompt": "x"',
        b"prompt=x",
        b"[]",
        b'"x"',
        b"null",
        b"7",
        b"\xff\xfe\x00",
        b'{"prompt": "\xe9"}',
        b"[" * 30_000,
        b'{"seed": ' + b"9" * 5_000 + b', "prompt": "x"}',
    ],
    ids=lambda body: repr(body)[:24],
)
async def test_malformed_json(client: httpx2.AsyncClient, generator: FakeGenerator, body: bytes) -> None:
    answer = await client.post(STREAM, content=body, headers={"content-type": "application/json"})
    error = checked(answer, 422, ErrorCode.MALFORMED_BODY)
    assert "JSON" in error["message"]
    assert generator.started == 0
    await goes_on(client)


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "nonsense", ""])
async def test_json_must_say_that_it_is_json(client: httpx2.AsyncClient, media_type: str) -> None:
    answer = await client.post(STREAM, content=json.dumps(OK), headers={"content-type": media_type})
    assert "Content-Type: application/json" in checked(answer, 422, ErrorCode.MALFORMED_BODY)["message"]


async def test_unknown_model(client: httpx2.AsyncClient) -> None:
    answer = await client.post(STREAM, json={**OK, "model": "huge"})
    assert "tiny" in checked(answer, 404, ErrorCode.MODEL_NOT_FOUND, param="model")["message"]
    checked(await client.get("/api/v1/models/huge"), 404, ErrorCode.MODEL_NOT_FOUND, param="model")


@pytest.mark.parametrize("accept", ["application/json", "audio/midi", "audio/*;q=0", "video/*, image/png"])
async def test_no_format_is_acceptable(client: httpx2.AsyncClient, accept: str) -> None:
    answer = await client.post(STREAM, json=OK, headers={"accept": accept})
    assert "audio/wav" in checked(answer, 406, ErrorCode.NOT_ACCEPTABLE)["details"]["available"]


@pytest.mark.parametrize("path", ["/nope", "/api/v1/", "/health/", "/web/../app.py", "/web/nope.js", "/docs", "/redoc"])
async def test_unknown_addresses(client: httpx2.AsyncClient, path: str) -> None:
    checked(await client.get(path), 404, ErrorCode.NOT_FOUND)


async def test_wrong_methods_are_told_the_right_ones(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/api/v1/auth/login")
    checked(answer, 405, ErrorCode.METHOD_NOT_ALLOWED)
    assert answer.headers["allow"] == "POST"
    checked(await client.delete("/health"), 405, ErrorCode.METHOD_NOT_ALLOWED)


async def test_problem_documents_for_those_who_ask(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/nope", headers={"accept": "application/problem+json"})
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["code"], problem["type"]) == (404, "not_found", "/errors#not_found")
    assert problem["request_id"] == answer.headers["x-request-id"]


async def test_every_code_is_explained_where_doc_url_points(client: httpx2.AsyncClient) -> None:
    page = (await client.get("/errors")).text
    assert all(f'id="{code.value}"' in page for code in ErrorCode)


async def test_audio_that_does_not_open_is_the_operators_business(
    client: httpx2.AsyncClient, app: FastAPI, log: structlog.testing.LogCapture
) -> None:
    """The client hears that something broke; what it was stands in the log, under the same request id."""
    made = (await client.post("/api/v1/generate", json=OK, headers={"Prefer": "wait=30"})).json()
    services: Services = app.state.services
    async for stored in services.objects.listing(""):
        await services.objects.put(stored.key, bytes(stored.size))
    answer = await client.get(f"/api/v1/audio/{made['tracks'][0]['id']}/data")
    error = checked(answer, 500, ErrorCode.INTERNAL_ERROR)
    (entry,) = (entry for entry in log.entries if entry["event"] == "internal_error")
    assert (entry["log_level"], entry["request_id"]) == ("error", error["request_id"])
    assert isinstance(entry["exc_info"], SealBrokenError)
    await goes_on(client)


def test_every_error_of_the_music_has_a_code() -> None:
    known = {kind for kind in vars(music).values() if isinstance(kind, type) and issubclass(kind, TuttiError)}
    assert known - {TuttiError} <= set(TABLE)


def test_statuses_and_kinds_agree() -> None:
    for code in ErrorCode:
        assert code.status in STATUSES[code.kind], code
        if code.status in (429, 503, 504):
            assert code.retryable, code
        assert code.meaning.endswith("."), code
