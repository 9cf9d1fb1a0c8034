"""Models, version, metrics and the OpenAPI document."""

from __future__ import annotations

import json

import pytest
from fastapi import FastAPI

from api.errors import ErrorCode
from api.version import VERSION
from tests.api.conftest import MakePlatform
from tests.api.fakes import FakeGenerator
from tests.api.platform import get


async def test_models_are_described_without_the_machine(make_platform: MakePlatform) -> None:
    app = (await make_platform(FakeGenerator(), FakeGenerator(channels=2))).app
    listed = (await get(app, "/api/v1/models")).json()["data"]
    assert [(model["id"], model["default"], model["channels"]) for model in listed] == [
        ("tiny", True, 1),
        ("small", False, 2),
    ]
    assert listed[0]["max_duration"] == 30.0
    assert listed[0]["licence"] == "MIT"
    assert listed[0]["parameters"]["top_k"]["default"] == 250
    assert listed[0]["health"] == {"ready": True, "reason": None, "replicas": 1}
    assert listed[0]["tiers"][0] == {"name": "free", "max_duration": 30.0, "max_tracks": 2}
    assert "/checkpoints" not in json.dumps(listed)
    assert (await get(app, "/api/v1/models/small")).json() == listed[1]


@pytest.mark.parametrize(
    ("environment", "host", "credentials"),
    [
        ("development", "localhost", "optional"),
        ("development", "tutti.example", "required"),
        ("production", "localhost", "required"),
    ],
)
async def test_version_says_whether_a_credential_is_needed(
    make_platform: MakePlatform, environment: str, host: str, credentials: str
) -> None:
    app = (await make_platform(FakeGenerator(), environment=environment)).app
    assert (await get(app, "/version", host)).json() == {
        "name": "tutti",
        "version": VERSION,
        "api": "v1",
        "credentials": credentials,
    }


async def test_metrics(app: FastAPI) -> None:
    await get(app, "/version")
    answer = await get(app, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "tutti_http_requests_total" in answer.text


async def test_openapi_is_served(app: FastAPI) -> None:
    document = (await get(app, "/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    stream = document["paths"]["/api/v1/generate/stream"]["post"]
    assert "X-Seed" in stream["responses"]["200"]["headers"]
    assert "system_overloaded" in stream["responses"]["503"]["content"]["application/json"]["examples"]
    assert document["components"]["schemas"]["ErrorCode"]["enum"] == [code.value for code in ErrorCode]
    assert "HTTPValidationError" not in json.dumps(document)
