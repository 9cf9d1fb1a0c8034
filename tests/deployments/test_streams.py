"""The main road, through HTTP, Serve and the real engine: streams share steps, and who leaves frees its rows."""

from __future__ import annotations

import asyncio
import random
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from benchmarks.processes import descendants
from deployments.platform import Platform
from tests.deployments.conftest import STREAM
from tests.deployments.probe import Probe, has_torch

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# Long enough that who starts late on a busy machine still shares most of the steps.
DURATIONS_S = (24.0, 12.0, 9.0, 7.5, 6.0, 4.5, 3.0, 2.1)  # the longest first: late starters still find company


def body(duration: float, seed: int = 0, prompt: str = "slow piano", **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "duration": duration, "seed": seed, "format": "pcm", **more}


def listen(http: httpx2.Client, request: dict[str, Any]) -> bytes:
    """The whole stream; a stream that is cut or has another length than it announced raises."""
    response = http.post(STREAM, json=request)
    assert response.status_code == 200, response.text
    return response.content


def test_concurrent_streams_share_steps_and_equal_their_solo_runs(http: httpx2.Client, probe: Probe) -> None:
    requests = [body(duration, seed, f"tune number {seed}") for seed, duration in enumerate(DURATIONS_S)]
    alone = [listen(http, request) for request in requests]
    before = probe.wait_idle()
    with ThreadPoolExecutor(len(requests)) as pool:
        together = list(pool.map(lambda request: listen(http, request), requests))
    after = probe.wait_idle()

    assert together == alone
    rows_per_step = (after["row_steps"] - before["row_steps"]) / (after["steps"] - before["steps"])
    # Each has two rows; were they served one after the other, the mean would be 2. If all start at once it is
    # 2 × the sum of their steps over the steps of the longest, which is 5.7; half of it allows for late starters.
    assert rows_per_step > sum(DURATIONS_S) / max(DURATIONS_S)


def test_audio_arrives_while_it_is_made(http: httpx2.Client, probe: Probe) -> None:
    with http.stream("POST", STREAM, json=body(200.0)) as response:  # nobody makes it to its end: who leaves ends it
        pieces = response.iter_raw()  # dropping it would close the response
        first = next(pieces)
        assert 0 < len(first) < int(response.headers["content-length"])
        assert probe.stats()["running"] == 1  # it is still being made
    probe.wait_idle()


def test_clients_that_leave_free_their_rows(http: httpx2.Client, probe: Probe) -> None:
    before = probe.wait_idle()
    with ExitStack() as streams:  # several, so that a busy machine does not finish before it hears of their leaving
        for seed in range(8):
            next(streams.enter_context(http.stream("POST", STREAM, json=body(30.0, seed))).iter_raw())
    after = probe.wait_idle()
    aborted, finished = (after[name] - before[name] for name in ("aborted", "finished"))
    assert aborted > 0
    assert aborted + finished == 8
    assert after["backlog_audio_s"] == 0
    assert after["free_rows"] == before["free_rows"]
    assert after["free_kv_positions"] == before["free_kv_positions"]


async def test_a_burst_of_clients_that_leave_at_any_moment_leaks_no_row(platform: Platform, probe: Probe) -> None:
    before = await asyncio.to_thread(probe.wait_idle)
    chance = random.Random(7)
    patience_s = [chance.uniform(0.0, 0.5) for _ in range(40)]  # more than fit: some leave while they still queue

    async with httpx2.AsyncClient(base_url=platform.url, timeout=60, trust_env=False) as http:

        async def leave_after(seconds: float, seed: int) -> None:
            try:
                async with asyncio.timeout(seconds):
                    await http.post(STREAM, json=body(30.0, seed))
            except TimeoutError:
                pass

        await asyncio.gather(*(leave_after(seconds, seed) for seed, seconds in enumerate(patience_s)))
    after = await asyncio.to_thread(probe.wait_idle)
    assert after["free_rows"] == before["free_rows"]
    assert after["free_kv_positions"] == before["free_kv_positions"]
    assert after["backlog_audio_s"] == 0


def test_only_the_engine_loads_torch(http: httpx2.Client, probe: Probe) -> None:
    listen(http, body(0.2))
    titles = descendants()
    engine = probe.stats()["pid"]
    assert has_torch(engine)
    small = [pid for pid, title in titles.items() if title.startswith("ray::") and pid != engine]
    kinds = {re.split("[:.]+", titles[pid])[1] for pid in small}  # "ray::ServeController.a_method_that_runs"
    assert {"ServeController", "ProxyActor", "ServeReplica"} <= kinds, titles
    assert [titles[pid] for pid in small if has_torch(pid)] == []


@pytest.mark.parametrize(
    ("request_body", "status", "code"),
    [
        (body(0), 422, "invalid_parameter"),
        (body(-1), 422, "invalid_parameter"),
        (body(601), 422, "invalid_parameter"),
        (body(1, prompt="x" * 2001), 422, "invalid_parameter"),
        ({"prompt": 7, "duration": 1}, 422, "invalid_parameter"),
        (body(1, seed=-1), 422, "invalid_parameter"),
        (body(1, model="enormous"), 404, "model_not_found"),
        (body(1) | {"format": "8-track"}, 422, "invalid_parameter"),
        (body(1, volume=11), 422, "invalid_parameter"),
        ("{", 422, "malformed_body"),
        (b"\xff\xfe", 422, "malformed_body"),
        (" " * 1_000_000, 413, "payload_too_large"),
    ],
)
def test_bad_input_gets_the_envelope_and_the_server_goes_on(
    http: httpx2.Client, request_body: dict[str, Any] | str | bytes, status: int, code: str
) -> None:
    if isinstance(request_body, dict):
        response = http.post(STREAM, json=request_body)
    else:
        response = http.post(STREAM, content=request_body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.headers["x-error-code"] == code
    assert len(listen(http, body(0.1))) > 0


def test_ready_names_the_model(http: httpx2.Client) -> None:
    response = http.get("/health/ready")
    assert response.status_code == 200
    assert "tiny" in response.text
