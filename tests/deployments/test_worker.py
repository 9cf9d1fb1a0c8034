"""The worker's deployment: by itself, and in a running platform where its process is killed."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Iterator
from typing import Any, cast

import httpx2
import pytest

from autoscaling.fairness import Places
from benchmarks.processes import descendants
from deployments import worker as worker_module
from deployments.platform import Platform
from deployments.worker import GenerationWorker, WorkerStoppedError
from tests.deployments.probe import has_torch
from tests.deployments.scripted import ScriptedWorker

GENERATE = "/api/v1/generate"


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, standard_loggers: None) -> Iterator[GenerationWorker]:
    monkeypatch.setattr(worker_module, "WORKER_FACTORY", "tests.deployments.scripted:create_worker")
    yield GenerationWorker({}, {}, {"tiny": 3}, {"tiny": Places(2, 1)})
    gc.collect()  # its __del__ must leave no coroutine that nobody awaits


def scripted(worker: GenerationWorker) -> ScriptedWorker:
    return cast(ScriptedWorker, worker._worker)


async def test_the_first_health_check_starts_the_work_and_the_next_ones_look_at_it(worker: GenerationWorker) -> None:
    inside = scripted(worker)
    assert (inside.slots, inside.per_replica) == ({"tiny": 3}, {"tiny": Places(2, 1)})
    await worker.check_health()
    await inside.started.wait()
    await worker.check_health()
    await cast(Any, worker.__del__())
    assert inside.ended


async def test_a_worker_that_broke_is_unhealthy_and_says_why(worker: GenerationWorker) -> None:
    inside = scripted(worker)
    inside.breaks = ZeroDivisionError("a bug")
    await worker.check_health()
    await inside.stop()
    await asyncio.wait([cast(Any, worker)._running])
    with pytest.raises(WorkerStoppedError, match="a bug"):
        await worker.check_health()
    await cast(Any, worker.__del__())


async def test_stopping_twice_is_as_good_as_once(worker: GenerationWorker) -> None:
    await worker.check_health()
    await cast(Any, worker.__del__())
    assert worker.__del__() is None


async def test_one_that_never_began_has_nothing_to_stop(worker: GenerationWorker) -> None:
    assert worker.__del__() is None


def worker_pids() -> list[int]:
    return [pid for pid, title in descendants().items() if "ServeReplica:tutti:Worker" in title]


@pytest.mark.ray
@pytest.mark.slow
def test_a_generation_outlives_its_worker(platform: Platform, http: httpx2.Client) -> None:
    """Killed in the middle, its lease ends, and the worker that Serve puts in its place makes the same audio."""
    body = {"prompt": "a tune", "duration": 20, "seed": 4, "num_tracks": 2, "format": "wav32f"}
    (pid,) = worker_pids()
    assert not has_torch(pid)
    made = http.post(GENERATE, json=body)
    assert made.status_code == 202, made.text
    with http.stream("GET", made.json()["links"]["audio"][0].replace("wav32f", "pcm")) as listening:
        next(listening.iter_raw())  # it is being made
        os.kill(pid, signal.SIGKILL)
    seen = wait(http, made.json()["links"]["self"])
    assert (seen["state"], seen["error"]) == ("succeeded", None)
    again = wait(http, http.post(GENERATE, json=body).json()["links"]["self"])
    assert [track["sha256"] for track in again["tracks"]] == [track["sha256"] for track in seen["tracks"]]
    assert seen["attempt"] == 2
    assert worker_pids() != [pid]


def wait(http: httpx2.Client, address: str) -> dict[str, Any]:
    for _ in range(10):
        seen: dict[str, Any] = http.get(address, headers={"Prefer": "wait=30"}).raise_for_status().json()
        if seen["finished_at"] is not None:
            return seen
    raise AssertionError(f"not ended in five minutes: {seen}")
