"""``tutti serve`` as its user meets it: a process that says its address, plays, and drains when it is told to stop."""

from __future__ import annotations

import json
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

from api.cli_client import STREAM_PATH
from tests.factories import make_checkpoint

pytestmark = [pytest.mark.ray, pytest.mark.slow]

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60


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
def serving(config: Path) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """The command as a process of its own; yields it, its address and what it has printed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "api.cli", "serve", "--config", str(config), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
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


def test_start_play_drain_stop(config: Path) -> None:
    with serving(config) as (process, url, printed):
        text = "".join(printed)
        assert f"Tutti is ready: {url}\n" in text
        assert url + STREAM_PATH in text

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
