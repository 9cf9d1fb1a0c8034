"""The whole platform as a process tree of its own, and the process ids of its parts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from api.cache.embedded import EmbeddedValkey
from benchmarks.processes import descendants
from tests.deployments.conftest import free_port

START_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 120.0
_POLL_S = 0.1
# Part → what the title of its processes holds.
TITLES = {
    "gateway": "ServeReplica:tutti:Gateway",
    "worker": "ServeReplica:tutti:Worker",
    "replica": "ServeReplica:tutti:musicgen-",
    "proxy": "ray::ProxyActor",
}


@dataclass(frozen=True)
class Cluster:
    """A platform that runs.

    Attributes:
        pid: of ``tutti serve``.
        data: its data folder: database and audio.
        valkey: its cache, kept alive by this process.
    """

    url: str
    pid: int
    data: Path
    valkey: EmbeddedValkey

    @property
    def database_url(self) -> str:
        return f"sqlite+aiosqlite:///{self.data / 'tutti.db'}"

    def pids(self, part: str) -> list[int]:
        """The processes of one part, below this platform and no other."""
        if part == "valkey":
            return [self.valkey.pid] if self.valkey.pid else []
        return [pid for pid, title in descendants(self.pid).items() if TITLES[part] in title]

    def kill(self, part: str) -> int | None:
        """SIGKILL the first process of a part; None if there is none at the moment."""
        for pid in self.pids(part)[:1]:
            os.kill(pid, signal.SIGKILL)
            return pid
        return None


def write_config(folder: Path, checkpoint: str, base: Path) -> Path:
    """The repository's own Serve config, with one model and short times, so that the dead are replaced soon."""
    config = yaml.safe_load(base.read_text())
    application = config["applications"][0]
    tiny = application["args"]["models"]["tiny"]
    application["args"]["models"] = {"tiny": tiny}
    tiny["checkpoint"] = checkpoint
    tiny["engine"].update(weights="fp32", max_rows=16)  # slower, so that faults and crowds meet what is being made
    tiny["deployment"]["max_ongoing_requests"] = 10
    tiny["deployment"]["autoscaling_config"].update(min_replicas=1, max_replicas=1)
    tiny["deployment"].update(health_check_period_s=1, graceful_shutdown_wait_loop_s=0.1)
    for deployment in application["deployments"]:
        deployment.update(health_check_period_s=1)
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@contextmanager
def running(folder: Path, config: Path, **environment: str) -> Iterator[Cluster]:
    """``tutti serve`` with a data folder of its own; ends with a drained stop.

    Raises:
        RuntimeError: it does not start; the message is what it printed.
    """
    port = free_port()
    command = [sys.executable, "-m", "api.cli", "serve", "--config", str(config), "--port", str(port)]
    data = folder / "data"
    with (folder / "serve.log").open("wb") as log, EmbeddedValkey() as valkey:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TUTTI_DATA_DIR": str(data), "TUTTI_REDIS_URL": valkey.url, **environment},
        )
        try:
            _wait_ready(process, folder / "serve.log")
            yield Cluster(f"http://127.0.0.1:{port}", process.pid, data, valkey)
        finally:
            _stop(process)


def _wait_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while "is ready" not in (said := log.read_text(errors="replace")):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the platform did not start: {said[-2000:]}")
        time.sleep(_POLL_S)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
