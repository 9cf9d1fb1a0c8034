"""What a client notices when a replica dies or is replaced under its stream: nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from deployments.platform import Platform, PlatformError, load_config
from tests.deployments.conftest import STREAM, ConfigWriter
from tests.deployments.probe import Probe
from tests.deployments.test_streams import body, listen

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_a_replica_that_is_killed_is_not_heard(http: httpx2.Client, probe: Probe) -> None:
    """Another attempt makes the same track, and the stream goes on at the same sample."""
    expected = listen(http, body(30.0))
    killed = probe.stats()
    with http.stream("POST", STREAM, json=body(30.0)) as response:
        pieces = response.iter_raw()
        head = next(pieces)
        os.kill(killed["pid"], signal.SIGKILL)
        assert head + b"".join(pieces) == expected
    path = f"/api/v1/generate/{response.headers['x-generation-id']}"
    generation = http.get(path, headers={"Prefer": "wait=30"}).json()
    assert (generation["state"], generation["attempt"]) == ("succeeded", 2)
    assert probe.stats()["replica"] != killed["replica"]


def test_requests_that_wait_for_a_dead_replica_are_served_by_the_next(http: httpx2.Client, probe: Probe) -> None:
    expected = [listen(http, body(0.5, seed)) for seed in range(4)]
    pid = probe.stats()["pid"]
    os.kill(pid, signal.SIGSTOP)  # so that no first byte can come
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(listen, http, body(0.5, seed)) for seed in range(4)]
        os.kill(pid, signal.SIGKILL)
        assert [future.result() for future in waiting] == expected


class Listener:
    """A stream that is open and has begun."""

    def __init__(self, http: httpx2.Client, seed: int) -> None:
        self._stream = http.stream("POST", STREAM, json=body(10.0, seed))
        self._pieces: Iterator[bytes] = iter(())
        self._seed = seed
        self._http = http

    def __enter__(self) -> Listener:
        self._pieces = self._stream.__enter__().iter_raw()
        self._head = next(self._pieces)
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.__exit__(None, None, None)

    def rest(self) -> bytes:
        return self._head + b"".join(self._pieces)


@pytest.fixture(scope="module")
def other_config(write_config: ConfigWriter) -> Path:
    return write_config(engine={"max_rows": 20})


def test_a_redeploy_lets_streams_end(platform: Platform, http: httpx2.Client, probe: Probe, other_config: Path) -> None:
    expected = [listen(http, body(10.0, seed)) for seed in range(2)]
    old = probe.stats()["replica"]
    with Listener(http, 0) as first, Listener(http, 1) as second:
        platform.deploy(load_config(other_config))
        assert [first.rest(), second.rest()] == expected
    new = probe.stats()
    assert new["replica"] != old
    assert new["max_rows"] == 20


def test_a_checkpoint_that_breaks_in_the_replica_is_named_and_the_old_replicas_serve_on(
    platform: Platform, http: httpx2.Client, write_config: ConfigWriter, other_config: Path, broken_checkpoint: Path
) -> None:
    platform.deploy(load_config(other_config))
    expected = listen(http, body(0.5))
    with pytest.raises(PlatformError, match="decader"):
        platform.deploy(load_config(write_config(checkpoint=broken_checkpoint)))
    assert listen(http, body(0.5)) == expected
    platform.deploy(load_config(other_config))
    assert listen(http, body(0.5)) == expected
