"""A real Prometheus that scrapes the exporter and runs the rules, thirty times faster than in real life."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from prometheus_client import start_http_server

from dashboards.build import Options, render, write
from dashboards.preview.prometheus import Prometheus, PrometheusError
from dashboards.timescale import TimeScale
from tests.dashboards.exporter import Platform

FASTER = 30  # the shortest window has five scrapes
SCRAPE_S = 2  # and may take as long, on a machine that does other things
PATIENCE_S = 120.0  # twenty seconds are enough, on a machine that does nothing else


@contextmanager
def prometheus(folder: Path) -> Iterator[Prometheus]:
    """Started in a folder of its own, on loopback; asked through the preview's client; gone at the end."""
    program = shutil.which("prometheus")
    if not program:
        pytest.skip("prometheus is not installed (Debian: prometheus)")
    exporter, thread = start_http_server(0, addr="127.0.0.1", registry=Platform().registry)
    write(render(Options(scale=TimeScale(FASTER))), folder)
    targets = [{"targets": [f"127.0.0.1:{exporter.server_port}"], "labels": {"role": "ingress", "replica": "a1"}}]
    config = {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": "1s"},
        "rule_files": ["rules/*.yml"],
        "scrape_configs": [{"job_name": "tutti", "static_configs": targets}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = _free_port()
    command = [
        program, "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--enable-feature=exemplar-storage",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    with (folder / "log").open("w") as log, subprocess.Popen(command, cwd=folder, stderr=log) as process:
        try:
            with Prometheus(f"http://127.0.0.1:{port}") as server:
                yield server
        finally:
            process.terminate()
            process.wait()
            exporter.shutdown()
            exporter.server_close()
            thread.join()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def until(server: Prometheus, wanted: Mapping[str, int]) -> float:
    """Wait for the first moment at which every query has so many series at least, and say when it was.

    Everything that is asked of that moment later has the same answer, whatever is scraped in between.

    Raises:
        TimeoutError: there was none.
    """
    end = time.monotonic() + PATIENCE_S
    found: dict[str, int] = {}
    while time.monotonic() < end:
        moment = time.time()
        try:
            found = {expr: len(server.query(expr, moment)) for expr in wanted}
        except PrometheusError:
            found = {}  # it starts
        if found and all(found[expr] >= series for expr, series in wanted.items()):
            return moment
        time.sleep(0.2)  # Prometheus tells nobody when it has evaluated a rule
    raise TimeoutError(f"after {PATIENCE_S:g} s: {found}")
