"""What an application needs before it starts, what it loads, and how it logs."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from api.app import create_app
from api.logs import make_logger
from api.settings import Settings, SettingsError
from tests.api.fakes import FakeGenerator, spec


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
    settings = Settings(redis_url="redis://127.0.0.1")
    with pytest.raises(SettingsError, match="no model"):
        create_app({}, {}, settings)
    with pytest.raises(SettingsError, match="must match"):
        create_app({"tiny": FakeGenerator()}, {"small": spec()}, settings)
    with pytest.raises(SettingsError, match="TUTTI_DEFAULT_MODEL is 'huge'"):
        create_app(
            {"tiny": FakeGenerator()}, {"tiny": spec()}, Settings(default_model="huge", redis_url="redis://127.0.0.1")
        )


def test_an_application_needs_a_cache() -> None:
    with pytest.raises(SettingsError, match="TUTTI_REDIS_URL"):
        create_app({"tiny": FakeGenerator()}, {"tiny": spec()})


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
