"""The policy "demand" in Serve's own controller: replicas follow the work, no stream is cut, and the log says why."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from deployments.platform import DEFAULT_CONFIG
from tests.crash.cluster import Cluster, running, write_config
from tests.deployments.conftest import STREAM
from tests.deployments.probe import descendants

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STREAMS, DURATION_S = 30, 30.0
DEADLINE_S = 120.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[Cluster]:
    """A platform of its own with one or two replicas, of engines that play two streams at a time."""
    folder = tmp_path_factory.mktemp("scaling")
    path = write_config(folder, str(checkpoint), DEFAULT_CONFIG)
    config = yaml.safe_load(path.read_text())
    application = config["applications"][0]
    tiny = application["args"]["models"]["tiny"]
    tiny["engine"].update(max_rows=4, num_threads=1)
    tiny["deployment"]["autoscaling_config"].update(min_replicas=1, max_replicas=2)
    # Far more work than one replica could make before a second one serves, however slow the machine is: the policy
    # rightly asks for none that could not help. It is a flash crowd, after which nothing is taken away for a minute.
    application["autoscaling_policy"]["policy_kwargs"]["models"]["tiny"].update(
        streams=2, stream_rate=10.0, cold_start_s=1, beta=0.1, break_even_s=5
    )
    path.write_text(yaml.safe_dump(config))
    with running(folder, path) as started:
        yield started


def wait_for(condition: Callable[[], bool], what: str, told: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} was not reached within {DEADLINE_S:g} s: {told()}"
        time.sleep(0.2)  # processes come and go without a word


def decisions(cluster: Cluster) -> list[dict[str, Any]]:
    """What the controller's log says was decided, in order."""
    titles = " ".join(descendants(cluster.pid).values())
    (session,) = set(re.findall(r"/tmp/ray/session_\d[-\w]+", titles))
    lines = [line for path in Path(session, "logs").glob("worker-*.err") for line in path.read_text().splitlines()]
    told = [json.loads(line) for line in lines if line.startswith("{") and '"autoscaler_' in line]
    return sorted(told, key=lambda line: str(line["timestamp"]))


def test_replicas_follow_the_work_and_no_stream_is_cut(cluster: Cluster) -> None:
    def listen(seed: int) -> int:
        body = {"prompt": "a long tune", "duration": DURATION_S, "seed": seed, "format": "pcm"}
        with httpx2.stream("POST", cluster.url + STREAM, json=body, timeout=180, trust_env=False) as response:
            assert response.status_code == 200, response.read()
            announced = int(response.headers["content-length"])
            assert sum(len(piece) for piece in response.iter_raw()) == announced
            return announced

    def replicas() -> int:
        return len(cluster.pids("replica"))

    def told() -> list[dict[str, Any]]:
        return decisions(cluster)

    assert replicas() == 1
    with ThreadPoolExecutor(STREAMS) as pool:
        heard = [pool.submit(listen, seed) for seed in range(STREAMS)]
        wait_for(lambda: replicas() == 2, "a second replica", told)
        lengths = {each.result() for each in heard}
    assert len(lengths) == 1
    assert lengths.pop() > 0
    wait_for(lambda: replicas() == 1, "one replica again", told)

    assert {line["event"] for line in told()} == {"autoscaler_decided"}, told()
    up, down = [line for line in told() if line["replicas_before"] not in (None, line["replicas"])]
    assert (up["action"], up["replicas_before"], up["replicas"]) == ("up", 1, 2)
    assert up["reason"] in {"demand", "backlog", "panic", "ceiling"}
    assert up["components"]["wish"] > 1
    assert up["running_audio_s"] + up["waiting_audio_s"] > 0
    assert (down["action"], down["replicas_before"], down["replicas"]) == ("down", 2, 1)
    assert down["components"]["wish"] <= 1
