"""A Ray cluster of several nodes on this machine: each has an address of its own on loopback and is one session of
processes, so that a whole node can be taken away at once, as by a loss of power."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from deployments.local_ray import NODE_ENVIRONMENT, REPOSITORY
from tests.deployments.conftest import free_port

START_TIMEOUT_S = 180.0
_POLL_S = 0.1
_TIMEOUT_S = 10.0
_BIN = Path(sys.executable).parent
_STARTED = "Ray runtime started"
# The node ends when the other end of its input closes, and so also when whoever started it is killed.
_UNTIL_INPUT_ENDS = 'exec 3<&0; (cat <&3 >/dev/null; kill -TERM $$) & exec "$@" </dev/null 3<&-'
_OPTIONS = {
    "num-cpus": "2",
    "object-store-memory": str(100 * 1024**2),
    "min-worker-port": "0",  # any: by default both nodes would count from the same one
    "max-worker-port": "0",
}


@dataclass(frozen=True)
class RayNode:
    """A node that runs.

    Attributes:
        process: ``ray start --block``; the leader of the session that all processes of the node belong to.
        address: of loopback, and no other node's.
        http_port: where its Serve proxy listens.
        log: what ``ray start`` says.
    """

    process: subprocess.Popen[bytes]
    address: str
    http_port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def kill(self) -> int:
        """SIGKILL every process, until none is left; returns how many there were."""
        killed: set[int] = set()
        while running := _running(self.process.pid):
            for pid in running:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            killed |= set(running)
            time.sleep(_POLL_S)
        self.process.communicate()
        return len(killed)


@dataclass(frozen=True)
class RayCluster:
    """A head with the dashboard that ``serve deploy`` talks to, and one other node."""

    head: RayNode
    other: RayNode
    dashboard: str
    environment: Mapping[str, str]

    def deploy(self, config: Path) -> None:
        """What an operator does, and KubeRay: give the Serve config to the head's dashboard.

        Raises:
            CalledProcessError: it was refused.
        """
        subprocess.run(
            [_BIN / "serve", "deploy", "--address", self.dashboard, config],
            check=True,
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
        )

    def running(self) -> set[tuple[str, str]]:
        """Deployment and node's address of every replica that serves, as the dashboard tells it.

        Raises:
            RuntimeError: the application cannot be deployed; the message says why.
        """
        request = urllib.request.Request(
            f"{self.dashboard}/api/serve/applications/",
            headers={"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"},
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            applications = json.load(answer)["applications"].values()
        failed = [application["message"] for application in applications if application["status"] == "DEPLOY_FAILED"]
        if failed:
            raise RuntimeError(failed[0])
        return {
            (name, replica["node_ip"])
            for application in applications
            for name, deployment in application["deployments"].items()
            for replica in deployment["replicas"]
            if replica["state"] == "RUNNING"
        }


@contextmanager
def ray_cluster(folder: Path, http_port: int, environment: Mapping[str, str]) -> Iterator[RayCluster]:
    """Two nodes; the ports of Ray itself ask for a token of this run.

    Args:
        folder: for what ``ray start`` says.
        http_port: the one in the Serve config, which is the head's proxy's; the other node's gets another one.
        environment: of every process, beside this one's.

    Raises:
        RuntimeError: a node does not start; the message is what it printed.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    common = {
        **inherited,
        **NODE_ENVIRONMENT,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        **environment,
    }
    gcs, dashboard, other_http = free_port(), free_port(), free_port()
    head_options = {
        "head": None,
        "port": str(gcs),
        "include-dashboard": "true",
        "dashboard-host": "127.0.0.1",
        "dashboard-port": str(dashboard),
        "ray-client-server-port": str(free_port()),
    }
    started: list[RayNode] = []
    try:
        head = _start(folder / "head.log", "127.0.0.2", http_port, head_options, common)
        started.append(head)
        _wait_for_port(head, gcs)  # the other node needs no more of the head than that, and takes seconds to get so far
        # Proxies of one machine need ports of their own.
        its = {**common, "RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(other_http)}
        other = _start(folder / "other.log", "127.0.0.3", other_http, {"address": f"{head.address}:{gcs}"}, its)
        started.append(other)
        for node in started:
            _wait_started(node)
        yield RayCluster(head, other, f"http://127.0.0.1:{dashboard}", common)
    finally:
        for node in reversed(started):
            node.kill()


def _start(
    log: Path, address: str, http_port: int, options: Mapping[str, str | None], environment: Mapping[str, str]
) -> RayNode:
    given = {**_OPTIONS, "node-ip-address": address, "dashboard-agent-listen-port": str(free_port()), **options}
    words = [f"--{name}" if value is None else f"--{name}={value}" for name, value in given.items()]
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["sh", "-c", _UNTIL_INPUT_ENDS, "sh", _BIN / "ray", "start", "--block", "--disable-usage-stats", *words],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=REPOSITORY,  # Ray puts this folder on its workers' path
            env=environment,
            start_new_session=True,
        )
    return RayNode(process, address, http_port, log)


def _wait_started(node: RayNode) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while _STARTED not in node.log.read_text(errors="replace"):
        _still_starts(node, deadline)


def _wait_for_port(node: RayNode, port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((node.address, port)) == 0:
                return
        _still_starts(node, deadline)


def _still_starts(node: RayNode, deadline: float) -> None:
    """Wait a moment for a node that tells nobody how far it is."""
    if node.process.poll() is not None or time.monotonic() > deadline:
        said = node.log.read_text(errors="replace")
        raise RuntimeError(f"the node {node.address} did not start: {said[-2000:]}")
    time.sleep(_POLL_S)


def _running(session: int) -> list[int]:
    """Processes of a session that have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it ended while we looked
                state, _, _, its = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:4]
                if int(its) == session and state != "Z":
                    found.append(int(entry.name))
    return found
