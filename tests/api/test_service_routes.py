"""Models, version, metrics and the OpenAPI document."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fastapi import FastAPI

from api.errors import ErrorCode
from api.version import VERSION
from models.style_config import MertConfig, StyleConfig
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


async def test_models_say_what_they_take(make_platform: MakePlatform) -> None:
    app = (await make_platform(FakeGenerator(), FakeGenerator(), max_duration_s=60.0)).app
    models = app.state.services.models
    hears = {"goes_on_from_audio": True, "takes_melody": True, "style": StyleConfig(MertConfig())}
    models["small"] = replace(models["small"], **hears, max_duration_s=30.0)
    tiny, small = (await get(app, "/api/v1/models")).json()["data"]
    assert tiny["takes"] == {"continuation": False, "melody": False, "style": False}
    assert tiny["extend_stride"] == {"minimum": 5.0, "below": 30.0, "default": 18.0, "longer_than": 30.0}
    assert small["takes"] == {"continuation": True, "melody": True, "style": True}
    assert small["extend_stride"] is None


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
