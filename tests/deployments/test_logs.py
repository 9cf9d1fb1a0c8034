"""What the processes of gateway and worker tell Python's logging comes out as JSON lines, like all the rest."""

from __future__ import annotations

import gc
import json
import logging
from typing import Any

import pytest

from api.logs import Bridge
from deployments import gateway as gateway_module
from deployments import worker as worker_module
from deployments.worker import GenerationWorker

BRIDGED = ("api", "deployments", "tutti")


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def compose_gateway(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(gateway_module, "APP_FACTORY", "tests.deployments.scripted:create_app")
    composed: object = gateway_module.compose({}, {})
    assert composed == "application"
    return composed


def compose_worker(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(worker_module, "WORKER_FACTORY", "tests.deployments.scripted:create_worker")
    return GenerationWorker({}, {}, {"tiny": 3})


@pytest.mark.parametrize(("compose", "service"), [(compose_gateway, "tutti-api"), (compose_worker, "tutti-worker")])
def test_standard_logging_is_bridged(
    compose: Any,
    service: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    standard_loggers: None,
) -> None:
    made = compose(monkeypatch)
    for name in BRIDGED:
        logging.getLogger(f"{name}.of_this_test").warning("it happened to %s", name)
    told = lines(capsys.readouterr().err)
    assert [line["event"] for line in told] == ["composed", *(f"it happened to {name}" for name in BRIDGED)]
    assert {line["service"] for line in told} == {service}
    assert [line["logger"] for line in told[1:]] == [f"{name}.of_this_test" for name in BRIDGED]
    assert all(sum(isinstance(one, Bridge) for one in logging.getLogger(name).handlers) == 1 for name in BRIDGED)
    del made
    gc.collect()


def test_a_second_composition_takes_the_first_ones_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], standard_loggers: None
) -> None:
    for _ in range(2):
        compose_gateway(monkeypatch)
    capsys.readouterr()
    logging.getLogger("tutti.of_this_test").warning("once")
    assert [line["event"] for line in lines(capsys.readouterr().err)] == ["once"]
