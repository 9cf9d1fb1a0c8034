"""Versions by address and by Accept header, and the headers of what is on its way out."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.requests import HTTPConnection

from api import deprecations
from api.deprecations import LEGACY_API_KEY, LEGACY_ERROR_BODY, Deprecation
from api.versions import UNVERSIONED
from tests.api.asgi import STREAM, Exchange

V1 = "application/vnd.tutti.v1+json"


@pytest.mark.parametrize("accept", [V1, "application/vnd.tutti+json", f"{V1.upper()}; q=0.5", f"text/html, {V1}"])
async def test_an_accept_header_is_as_good_as_a_prefix(client: httpx2.AsyncClient, accept: str) -> None:
    prefixed = await client.get("/api/v1/models")
    answer = await client.get("/models", headers={"accept": accept})
    assert answer.json() == prefixed.json()
    assert answer.headers["content-type"] == V1
    assert answer.headers["vary"] == "Accept"
    both = await client.get("/api/v1/models", headers={"accept": accept})
    assert (both.status_code, both.headers["content-type"]) == (200, V1)


async def test_without_either_the_address_is_unknown(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/models")).status_code == 404


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/api/v2/models", "*/*"),
        ("/api/v01/models", "*/*"),
        ("/api/v999", "*/*"),
        ("/models", "application/vnd.tutti.v2+json"),
        ("/models", "application/vnd.tutti.v+json"),
        ("/api/v1/models", "application/vnd.tutti.v2+json"),
        ("/health", "application/vnd.tutti.v2+json, application/vnd.tutti.v3+json"),
    ],
)
async def test_an_unknown_version_is_refused(client: httpx2.AsyncClient, path: str, accept: str) -> None:
    answer = await client.get(path, headers={"accept": accept})
    assert (answer.status_code, answer.headers["x-error-code"]) == (406, "unsupported_version")
    assert answer.json()["error"]["details"] == {"available": ["v1"]}


async def test_the_best_version_of_several_is_taken(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/models", headers={"accept": f"application/vnd.tutti.v2+json, {V1}"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, V1)


@pytest.mark.parametrize(("accept", "media_type"), [(V1, "audio/wav"), (f"{V1}, audio/flac", "audio/flac")])
async def test_the_version_is_no_audio_format(client: httpx2.AsyncClient, accept: str, media_type: str) -> None:
    body = {"prompt": "calm piano", "duration": 0.3}
    answer = await client.post("/generate/stream", json=body, headers={"accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)


async def test_problem_documents_keep_their_type(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/nope", headers={"accept": f"{V1}, application/problem+json"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_below_another_root(app: FastAPI) -> None:
    exchange = Exchange(app, path="/music/models", method="GET", headers={"accept": V1}, root_path="/music").start()
    exchange.disconnect()
    await exchange.finish()
    assert exchange.status == 200


def test_the_addresses_without_a_version_are_those_of_the_application(app: FastAPI) -> None:
    paths = {(route.path or "/").split("/", 2)[1] for route in iter_route_contexts(app.routes)}
    assert paths <= UNVERSIONED
    versioned = {route.path for route in iter_route_contexts(app.routes) if (route.path or "").startswith("/api/")}
    assert all(path and path.startswith("/api/v1/") for path in versioned)


# ----------------------------------------------------------------------------------- deprecations
async def test_the_legacy_error_body_still_works_and_says_that_it_ends(client: httpx2.AsyncClient) -> None:
    answer = await client.post(STREAM, json={}, headers={"accept": "application/vnd.tutti.legacy+json"})
    assert answer.status_code == 422
    assert answer.json() == {"detail": "prompt: is missing: add it"}
    assert answer.headers["deprecation"] == f"@{int(LEGACY_ERROR_BODY.since.timestamp())}"
    assert parsedate_to_datetime(answer.headers["sunset"]) == LEGACY_ERROR_BODY.sunset
    assert answer.headers["link"] == '</errors#legacy-error-body>; rel="deprecation"; type="text/html"'
    assert answer.headers["x-error-code"] == "invalid_parameter"


async def test_what_is_current_says_nothing_of_it(client: httpx2.AsyncClient) -> None:
    for path in ("/api/v1/models", "/nope"):
        assert not {"deprecation", "sunset", "link"} & set((await client.get(path)).headers)


def test_several_marks_give_the_earliest_dates_and_every_link() -> None:
    moved = Deprecation("old-song", "…", since=datetime(2025, 1, 1, tzinfo=UTC), successor="/api/v1/new-song")
    scope: dict[str, Any] = {"type": "http"}
    for one in (moved, LEGACY_API_KEY, moved):
        deprecations.mark(HTTPConnection(scope), one)
    found = dict(deprecations.headers(scope["state"]["deprecations"]))
    assert found["Deprecation"] == "@1735689600"
    assert found["Sunset"] == "Thu, 01 Jul 2027 00:00:00 GMT"
    assert '</api/v1/new-song>; rel="successor-version"' in found["Link"]
    assert found["Link"].count('rel="deprecation"') == 2


async def test_every_deprecation_is_explained_where_its_link_points(client: httpx2.AsyncClient) -> None:
    page = (await client.get(deprecations.PAGE)).text
    assert all(f'id="{one.name}"' in page for one in deprecations.DEPRECATIONS)
