"""Every process of the running platform is listed, and what it shows agrees with what was asked of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.telemetry.catalogue import CATALOGUE, metric

pytestmark = [pytest.mark.ray, pytest.mark.slow]
BODY = {"prompt": "a tune", "duration": 1.0, "seed": 3, "format": "pcm"}
PATIENCE_S = 60.0
ROLES = {"ingress", "worker", "engine", "controller"}


def listed(http: httpx2.Client) -> dict[str, str]:
    """Role → address, of the replicas that are there; one that was killed stays on the list for half a minute.

    Nothing while there are two of a kind: one of them was replaced, and leaves.
    """
    found: dict[str, str] = {}
    for each in http.get("/metrics/targets").json():
        (address,) = each["targets"]
        with suppress(httpx2.ConnectError):
            httpx2.get(f"http://{address}/metrics", trust_env=False, timeout=PATIENCE_S)
            if each["labels"]["role"] in found:
                return {}
            found[each["labels"]["role"]] = address
    return found


def everybody(http: httpx2.Client) -> dict[str, str]:
    """Role → address, once there is one of each."""
    found: dict[str, str] = {}

    def are_there() -> bool:
        nonlocal found
        found = listed(http)
        return found.keys() == ROLES

    until(are_there)
    return found


def total(address: str, name: str, **labels: str) -> float:
    text = httpx2.get(f"http://{address}/metrics", trust_env=False, timeout=PATIENCE_S).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def until(condition: Callable[[], Any]) -> None:
    """Workers and engines show what they did within a second or two, and ring no bell."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s"


def at_rest(read: Callable[[], float]) -> float:
    """What was made before has been counted: a process looks once a second, and nothing new came for three of them."""
    number, since = read(), time.monotonic()
    while time.monotonic() < since + 3.0:
        time.sleep(0.2)
        if (now := read()) != number:
            number, since = now, time.monotonic()
    return number


def test_each_process_shows_its_own(http: httpx2.Client) -> None:
    where = everybody(http)
    ingress, worker, engine = (where[role] for role in ("ingress", "worker", "engine"))
    done = {"tier": "enterprise", "outcome": "completed"}
    made_s = at_rest(lambda: total(engine, "tutti_engine_audio_generated_seconds_total"))
    streams = total(ingress, "tutti_requests_total", mode="stream", **done)
    jobs = total(worker, "tutti_requests_total", mode="async", **done)

    assert http.post("/api/v1/generate/stream", json=BODY).status_code == 200
    job = http.post("/api/v1/generate", json=BODY, headers={"Prefer": "wait=60"})
    assert job.json()["state"] == "succeeded"

    until(lambda: total(worker, "tutti_requests_total", mode="async", **done) == jobs + 1)
    assert total(ingress, "tutti_requests_total", mode="stream", **done) == streams + 1
    until(lambda: total(engine, "tutti_engine_audio_generated_seconds_total") == pytest.approx(made_s + 2.0))
    until(lambda: total(worker, "tutti_engine_backlog_audio_seconds") == 0.0)
    assert total(engine, "tutti_engine_steps_total") > 0
    assert total(engine, "tutti_engine_rows") == total(engine, "tutti_engine_rows", state="free")
    assert total(engine, "tutti_replica_startup_seconds", stage="decoder") > 0
    until(lambda: total(where["controller"], "tutti_autoscaler_replicas", model="tiny", state="ready") == 1.0)
    assert total(where["controller"], "tutti_autoscaler_replicas", model="tiny", state="desired") == 1.0


def test_what_is_shown_is_in_the_catalogue(http: httpx2.Client) -> None:
    for address in everybody(http).values():
        text = httpx2.get(f"http://{address}/metrics", trust_env=False, timeout=PATIENCE_S).text
        series = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
        ours = {name for name in series if name.startswith("tutti_")}
        assert ours <= {name for each in CATALOGUE for name in each.series}
    assert metric("tutti_build_info").name in series
