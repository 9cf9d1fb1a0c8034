"""``tutti serve`` as its user meets it: a process that says its address, plays, and drains when it is told to stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import yaml

from tests.factories import make_checkpoint

STREAM_PATH = "/api/v1/generate/stream"

pytestmark = [pytest.mark.ray, pytest.mark.slow]

START_TIMEOUT_S = 240
STOP_TIMEOUT_S = 120


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve")
    model = {
        "checkpoint": str(make_checkpoint(folder / "checkpoint")),
        "deployment": {
            "graceful_shutdown_timeout_s": 60,
            "graceful_shutdown_wait_loop_s": 0.1,
            "ray_actor_options": {"num_cpus": 0.1},
        },
    }
    application = {
        "name": "tutti",
        "route_prefix": "/",
        "import_path": "deployments.app:build",
        "args": {"models": {"random": model}},
    }
    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump({"applications": [application]}))
    return path


@contextmanager
def serving(config: Path, data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """The command as a process of its own; yields it, its address and what it has printed."""
    environment = {**os.environ, "TUTTI_DATA_DIR": str(data_dir)}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "api.cli", "serve", "--config", str(config), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    giving_up = threading.Timer(START_TIMEOUT_S, process.kill)
    giving_up.start()
    try:
        assert process.stdout is not None
        printed: list[str] = []
        for line in process.stdout:
            printed.append(line)
            if "-o music.wav" in line:
                break
        giving_up.cancel()
        yield process, f"http://127.0.0.1:{port}", printed
    finally:
        giving_up.cancel()
        if process.poll() is None:
            process.kill()
        process.communicate()


def _valkey_of(parent: int) -> list[Path]:
    """The cache servers that are children of this process, as folders of /proc."""
    children = Path(f"/proc/{parent}/task").glob("*/children")
    found = [Path("/proc", pid) for file in children for pid in file.read_text().split()]
    return [each for each in found if "valkey-server" in (each / "cmdline").read_text()]


def test_start_play_drain_stop(config: Path, tmp_path: Path) -> None:
    with serving(config, tmp_path / "data") as (process, url, printed):
        text = "".join(printed)
        assert f"Tutti is ready: {url}\n" in text
        assert url + STREAM_PATH in text

        assert {path.name for path in (tmp_path / "data").iterdir()} >= {"tutti.db", "secrets.json"}
        caches = _valkey_of(process.pid)
        assert len(caches) == 1

        body = json.loads(text.split("-d '", 1)[1].split("'", 1)[0])
        with httpx2.stream("POST", url + STREAM_PATH, json={**body, "duration": 20}, timeout=60) as response:
            assert response.status_code == 200
            pieces = response.iter_bytes()
            received = len(next(pieces))
            process.send_signal(signal.SIGINT)
            received += sum(map(len, pieces))
        assert received == int(response.headers["content-length"])

        _, stderr = process.communicate(timeout=STOP_TIMEOUT_S)
        assert process.returncode == 0, stderr
        assert "Draining" in stderr
        assert stderr.rstrip().endswith("Stopped.")
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(url, timeout=5)
        assert not caches[0].exists()
