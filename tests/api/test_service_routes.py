"""Models, health, version, metrics, the OpenAPI document, settings and what is refused at the start."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable

import httpx2
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.errors import ErrorCode
from api.logs import make_logger
from api.settings import Settings, SettingsError
from api.version import VERSION
from models.errors import EngineDeadError
from tests.api.fakes import FakeGenerator, spec


async def get(app: FastAPI, path: str) -> httpx2.Response:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://tutti") as client:
        return await client.get(path)


async def test_models_are_described_without_the_machine(make_app: Callable[..., FastAPI]) -> None:
    app = make_app(FakeGenerator(), FakeGenerator(channels=2))
    listed = (await get(app, "/api/v1/models")).json()["data"]
    assert [(model["id"], model["default"], model["channels"]) for model in listed] == [
        ("tiny", True, 1),
        ("small", False, 2),
    ]
    assert listed[0]["max_duration"] == 30.0
    assert listed[0]["licence"] == "MIT"
    assert listed[0]["parameters"]["top_k"]["default"] == 250
    assert listed[0]["health"] == {"ready": True, "reason": None}
    assert "/checkpoints" not in json.dumps(listed)
    assert (await get(app, "/api/v1/models/small")).json() == listed[1]


async def test_ready_names_each_dependency(make_app: Callable[..., FastAPI]) -> None:
    answer = await get(make_app(FakeGenerator(), FakeGenerator()), "/health/ready")
    names = [(dependency["name"], dependency["ready"]) for dependency in answer.json()["dependencies"]]
    assert (answer.status_code, names) == (200, [("model:tiny", True), ("model:small", True)])


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ("its replicas are starting", "its replicas are starting"),
        (False, "not ready"),
        (EngineDeadError("the engine stopped"), "the engine stopped"),
    ],
)
async def test_not_ready_is_a_503_that_says_why(
    make_app: Callable[..., FastAPI], says: bool | str | Exception, reason: str
) -> None:
    app = make_app(FakeGenerator(), FakeGenerator(ready_answer=says))
    answer = await get(app, "/health/ready")
    assert (answer.status_code, answer.headers["x-error-code"]) == (503, "not_ready")
    assert "retry-after" in answer.headers
    found = answer.json()["error"]["details"]["dependencies"]
    assert found[0] == {"name": "model:tiny", "ready": True, "reason": None}
    assert found[1] == {"name": "model:small", "ready": False, "reason": reason}
    assert (await get(app, "/health")).json() == {"status": "ok"}
    assert (await get(app, "/api/v1/models/small")).json()["health"] == {"ready": False, "reason": reason}


async def test_a_backend_that_does_not_answer_is_not_ready(make_app: Callable[..., FastAPI]) -> None:
    class Silent(FakeGenerator):
        async def ready(self) -> bool | str:
            await self.hold(99).wait()
            return True

    answer = await get(make_app(Silent(), ready_timeout_s=0.01), "/health/ready")
    assert answer.json()["error"]["details"]["dependencies"][0]["reason"] == "no answer within 0.01 s"


async def test_version_and_metrics(app: FastAPI) -> None:
    assert (await get(app, "/version")).json() == {
        "name": "tutti",
        "version": VERSION,
        "api": "v1",
        "credentials": "required",
    }
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


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTTI_MAX_BODY_BYTES", "2048")
    assert Settings().max_body_bytes == 2048


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TUTTI_MAX_BODY_BYTE", "1", "did you mean TUTTI_MAX_BODY_BYTES"),
        ("TUTTI_COLOUR", "red", "TUTTI_COLOUR is no setting of Tutti"),
        ("tutti_log_levle", "info", "did you mean TUTTI_LOG_LEVEL"),
        ("TUTTI_MAX_BODY_BYTES", "many", "TUTTI_MAX_BODY_BYTES: Input should be a valid integer"),
        ("TUTTI_LOG_LEVEL", "loud", "TUTTI_LOG_LEVEL: Input should be 'debug'"),
    ],
)
def test_a_bad_environment_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=message) as caught:
        create_app({"tiny": FakeGenerator()}, {"tiny": spec()})
    assert value not in str(caught.value) or name == value


def test_an_application_needs_models_that_match() -> None:
    with pytest.raises(SettingsError, match="no model"):
        create_app({}, {})
    with pytest.raises(SettingsError, match="must match"):
        create_app({"tiny": FakeGenerator()}, {"small": spec()})
    with pytest.raises(SettingsError, match="TUTTI_DEFAULT_MODEL is 'huge'"):
        create_app({"tiny": FakeGenerator()}, {"tiny": spec()}, Settings(default_model="huge"))


def test_the_application_loads_neither_torch_nor_ray() -> None:
    script = "import sys, api.app; print(sorted({'torch', 'transformers', 'ray'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "[]"


def test_logs_are_json_lines() -> None:
    stream = io.StringIO()
    log = make_logger("info", stream)
    log.debug("hidden")
    log.info("shown", status=200)
    [line] = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["status"], entry["level"], entry["service"]) == ("shown", 200, "info", "tutti-api")
    assert entry["timestamp"].endswith("Z")
