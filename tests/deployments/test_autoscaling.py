"""The policy "demand" in Serve's own controller: replicas follow the work from zero and back to it, no stream is cut,
and the log says why."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from redis import Redis

from benchmarks.processes import descendants
from deployments.platform import DEFAULT_CONFIG
from tests.crash.cluster import Cluster, running, write_config
from tests.deployments.conftest import STREAM

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STREAMS, DURATION_S = 10, 30.0
DEADLINE_S = 150.0
SEEDS = count()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[Cluster]:
    """A platform of its own with up to two replicas, of engines that play two streams at a time."""
    folder = tmp_path_factory.mktemp("scaling")
    path = write_config(folder, str(checkpoint), DEFAULT_CONFIG)
    config = yaml.safe_load(path.read_text())
    application = config["applications"][0]
    tiny = application["args"]["models"]["tiny"]
    tiny["engine"].update(max_rows=4, num_threads=1)
    tiny["deployment"]["autoscaling_config"].update(min_replicas=0, max_replicas=2)
    # To the policy a replica makes 7.5 audio-s a second: the streams are a crowd, however slow the machine is. After
    # one nothing is taken away for up to 80 s. The last arrival asks for a replica for a minute, and the break-even
    # keeps that one longer than the crowd keeps two.
    application["autoscaling_policy"]["policy_kwargs"]["models"]["tiny"].update(
        streams=2, stream_rate=3.75, cold_start_s=5, beta=0, break_even_s=25
    )
    path.write_text(yaml.safe_dump(config))
    with running(folder, path) as started:
        yield started


class Watch:
    """What can be seen of the platform from outside, and what its controller's log says."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.http = httpx2.Client(base_url=cluster.url, timeout=180, trust_env=False)

    def replicas(self) -> int:
        return len(self._cluster.pids("replica"))

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, f"{what} was not reached within {DEADLINE_S:g} s: {self.told()}"
            time.sleep(0.2)  # processes come and go without a word

    def until_replicas(self, number: int) -> None:
        self.until(lambda: self.replicas() == number, f"{number} replicas")

    def told(self) -> list[dict[str, Any]]:
        """The policy's lines, in order."""
        titles = " ".join(descendants(self._cluster.pid).values())
        (session,) = set(re.findall(r"/tmp/ray/session_\d[-\w]+", titles))
        lines = [line for path in Path(session, "logs").glob("worker-*.err") for line in path.read_text().splitlines()]
        told = [json.loads(line) for line in lines if line.startswith("{") and '"autoscaler_' in line]
        return sorted(told, key=lambda line: str(line["timestamp"]))

    def health(self) -> dict[str, Any]:
        (model,) = self.http.get("/api/v1/models").json()["data"]
        health: dict[str, Any] = model["health"]
        return health

    def is_known_to_sleep(self) -> bool:
        """The autoscaler has told gateways and workers."""
        with Redis.from_url(self._cluster.valkey.url) as redis:
            said: Any = redis.get("tutti:autoscaler:starts")
        return said is not None and bool(json.loads(said)["tiny"][0] > 0)

    def is_awake(self) -> bool:
        """A replica serves; ready it is in any case."""
        assert self.http.get("/health/ready").status_code == 200
        return bool(self.health()["replicas"] == 1)

    def listen(self, duration_s: float) -> int:
        """Bytes of a stream that came whole."""
        body = {"prompt": "a tune", "duration": duration_s, "seed": next(SEEDS), "format": "pcm"}
        with self.http.stream("POST", STREAM, json=body) as response:
            assert response.status_code == 200, response.read()
            announced = int(response.headers["content-length"])
            assert sum(len(piece) for piece in response.iter_raw()) == announced
            return announced


@pytest.fixture(scope="module")
def watch(cluster: Cluster) -> Iterator[Watch]:
    watch = Watch(cluster)
    with watch.http:
        yield watch


def test_replicas_follow_the_work_from_zero_and_back(watch: Watch) -> None:
    assert watch.replicas() == 0
    assert watch.http.get("/health/ready").status_code == 200
    assert watch.health() == {"ready": True, "reason": None, "replicas": 0}

    watch.until(lambda: any(line["reason"] != "stale" for line in watch.told()), "a decision from fresh signals")
    assert watch.listen(2.0) > 0
    assert watch.replicas() == 1
    with ThreadPoolExecutor(STREAMS) as pool:
        heard = [pool.submit(watch.listen, DURATION_S) for _ in range(STREAMS)]
        watch.until_replicas(2)
        lengths = {each.result() for each in heard}
    assert len(lengths) == 1
    assert lengths.pop() > 0
    assert watch.listen(2.0) > 0  # for the minute after it one replica is needed
    watch.until_replicas(1)
    watch.until_replicas(0)

    told = watch.told()
    assert {line["event"] for line in told} == {"autoscaler_decided"}, told
    changes = [line for line in told if line["replicas_before"] not in (None, line["replicas"])]
    assert [line["replicas"] for line in changes] == [1, 2, 1, 0], told
    assert [line["action"] for line in changes] == ["up", "up", "down", "down"]
    wake, up, down, sleep = changes
    # Gateways tell what was asked for, workers what waits: whoever reports first is heard first.
    for more in (wake, up):
        assert more["running_audio_s"] + more["waiting_audio_s"] + more["arriving_audio_s_per_s"] > 0
    assert up["components"]["wish"] > 1
    assert down["components"]["wish"] <= 1
    assert sleep["components"]["wish"] == 0

    # Asleep again it says honestly how long it takes, and is ready for others meanwhile.
    watch.until(watch.is_known_to_sleep, "the word that the model sleeps")
    job = watch.http.post("/api/v1/generate", json={"prompt": "a tune", "duration": 2.0})
    assert job.status_code == 202
    assert job.json()["eta_s"] > sleep["cold_start_s"] > 1.0
    watch.until(watch.is_awake, "a replica that serves")
    assert watch.listen(2.0) > 0
    done = watch.http.get(f"/api/v1/generate/{job.json()['id']}", headers={"Prefer": "wait=60"})
    assert done.json()["state"] == "succeeded"
