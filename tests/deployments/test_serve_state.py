"""What Serve says of its deployments is asked for once for all models of a process. Serve's answer is scripted."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatusOverview, DeploymentStatusOverview, ServeStatus

from deployments import client as client_module
from deployments.client import GeneratorClient, ServeState
from tests.deployments.scripted import Replica

MODELS = {"tiny": 2, "small": 0}


class Controller:
    """Counts how often it is asked; answers when it may, and raises what it is told to."""

    def __init__(self, app: str) -> None:
        self._app = app
        self.asked = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.replicas = dict(MODELS)
        self.error: Exception | None = None

    def status(self) -> ServeStatus:
        self.asked += 1
        assert self.may_answer.wait(30.0)
        if self.error is not None:
            raise self.error
        states: Any = {name: {"RUNNING": number} if number else {} for name, number in self.replicas.items()}
        found: Any = {
            name: DeploymentStatusOverview("UPDATING", "UNSPECIFIED", states[name], "") for name in self.replicas
        }
        app = ApplicationStatusOverview("RUNNING", "", 0.0, found)
        return ServeStatus(applications={self._app: app})


@pytest.fixture(scope="module")
def handles() -> dict[str, Any]:
    """Of deployments of one application, in this process."""
    handle: Any = serve.run(
        serve.deployment(Replica).options(name="tiny").bind(), name="state", _local_testing_mode=True
    )
    other: Any = serve.run(
        serve.deployment(Replica).options(name="small").bind(), name="state", _local_testing_mode=True
    )
    return {"tiny": handle, "small": other}


@pytest.fixture
def controller(handles: dict[str, Any]) -> Controller:
    return Controller(handles["tiny"].deployment_id.app_name)


@pytest.fixture
def clients(handles: dict[str, Any], controller: Controller) -> list[GeneratorClient]:
    state = ServeState(controller.status)
    return [GeneratorClient(handles[name], state) for name in MODELS]


async def test_one_call_answers_for_all_models(
    clients: list[GeneratorClient], controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "STATE_MAX_AGE_S", 60.0)
    assert [await each.replicas() for each in clients] == [2, 0]
    assert [await each.ready() for each in clients] == [True, "small is UPDATING: its replicas are starting"]
    assert controller.asked == 1


async def test_what_is_too_old_is_asked_for_again(
    clients: list[GeneratorClient], controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "STATE_MAX_AGE_S", 0.0)
    tiny, small = clients
    assert await tiny.replicas() == 2
    controller.replicas["small"] = 3
    assert await small.replicas() == 3
    assert controller.asked == 2


async def test_who_asks_meanwhile_waits_for_the_same_answer(
    clients: list[GeneratorClient], controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes, and one of them that leaves takes it from nobody."""
    monkeypatch.setattr(client_module, "STATE_MAX_AGE_S", 0.0)
    controller.may_answer.clear()
    asking = [asyncio.create_task(each.replicas()) for each in clients * 2]
    await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.gather(asking[0], return_exceptions=True)
    controller.may_answer.set()
    assert await asyncio.gather(*asking[1:]) == [0, 2, 0]
    assert controller.asked == 1


async def test_a_controller_that_is_away_counts_no_replicas(
    clients: list[GeneratorClient], controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it answers again."""
    monkeypatch.setattr(client_module, "STATE_MAX_AGE_S", 0.0)
    controller.error = RayServeException("no controller")
    assert [await each.replicas() for each in clients] == [0, 0]
    assert await clients[0].ready() == "the Serve controller does not answer: no controller"
    controller.error = None
    assert await clients[0].replicas() == 2
