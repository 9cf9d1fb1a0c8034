"""A real Prometheus and a real Alertmanager on free ports of the loopback interface, and who is told by the latter."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import yaml

from dashboards.build import Options, render, write
from dashboards.server_files import Addresses
from dashboards.timescale import TimeScale
from tests.deployments.conftest import free_port

READY_S = 30.0
_POLL_S = 0.1
PROGRAMS = {"prometheus": ("prometheus",), "alertmanager": ("prometheus-alertmanager", "alertmanager")}


class MissingProgramError(RuntimeError):
    """Prometheus or Alertmanager is not installed."""


def program(name: str) -> str:
    """Where it is.

    Raises:
        MissingProgramError: saying what to install.
    """
    for candidate in PROGRAMS[name]:
        if found := shutil.which(candidate):
            return found
    raise MissingProgramError(f"{name} is not installed: apt-get install prometheus prometheus-alertmanager")


@dataclass
class Pager:
    """Takes what Alertmanager sends to whoever is on call.

    Attributes:
        told: when, to whom (page, ticket), firing or resolved, and the alert's labels.
    """

    url: str = ""
    told: list[tuple[float, str, str, dict[str, str]]] = field(default_factory=list)

    @contextmanager
    def listening(self) -> Iterator[Pager]:
        pager = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                for alert in json.loads(self.rfile.read(length))["alerts"]:
                    told = (time.time(), self.path.strip("/"), alert["status"], alert["labels"])
                    pager.told.append(told)
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Not on standard error."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


@dataclass(frozen=True)
class Monitoring:
    """Both servers, running."""

    prometheus: str
    alertmanager: str
    scale: TimeScale
    pager: Pager


@contextmanager
def monitoring(folder: Path, platform: str, scale: TimeScale, more_targets: list[str]) -> Iterator[Monitoring]:
    """Watch a platform with the rules that ``slo.yaml`` makes.

    Args:
        folder: for configuration and data.
        platform: its URL.
        more_targets: host and port of what the platform does not list itself (Ray's own metrics).

    Raises:
        MissingProgramError, RuntimeError: a server is not installed, or does not start.
    """
    ours, theirs = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    with ExitStack() as stack:
        pager = stack.enter_context(Pager().listening())
        addresses = Addresses(platform=platform, prometheus=ours, alertmanager=theirs, notify=pager.url)
        write(render(Options(scale, addresses)), folder)
        _add_targets(folder / "prometheus.yml", more_targets)
        stack.enter_context(_server(folder, "alertmanager", theirs, "--cluster.listen-address="))
        keep = ("--storage.tsdb.retention.time=1d", "--enable-feature=exemplar-storage")
        stack.enter_context(_server(folder, "prometheus", ours, *keep))
        yield Monitoring(f"http://{ours}", f"http://{theirs}", scale, pager)


def _add_targets(path: Path, targets: list[str]) -> None:
    if targets:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        config["scrape_configs"].append({"job_name": "ray", "static_configs": [{"targets": targets}]})
        path.write_text(yaml.safe_dump(config), encoding="utf-8")


@contextmanager
def _server(folder: Path, name: str, address: str, *more: str) -> Iterator[None]:
    data = "--storage.tsdb.path" if name == "prometheus" else "--storage.path"
    command = [
        program(name),
        f"--config.file={folder / name}.yml",
        f"{data}={folder / name}-data",
        f"--web.listen-address={address}",
        "--log.level=warn",
        *more,
    ]
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_ready(process, f"http://{address}/-/ready", log)
        yield
    finally:
        process.terminate()
        process.wait()


def _wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx2.get(url, trust_env=False).status_code == 200:
                return
        except httpx2.HTTPError:
            time.sleep(_POLL_S)
    raise RuntimeError(f"{url} does not answer: {log.read_text(errors='replace')[-2000:]}")
