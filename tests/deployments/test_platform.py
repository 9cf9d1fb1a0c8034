"""Starting and stopping: nothing is printed, nothing is left behind, and what goes wrong is said in a sentence."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from deployments import platform as platform_module
from deployments.platform import REPOSITORY, Platform, PlatformError
from tests.deployments.conftest import ConfigWriter, free_port


def run_python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n{code}"],
        cwd=cwd,
        env={**os.environ, "TUTTI_DATA_DIR": str(cwd / "data")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_what_builds_and_routes_loads_no_torch(tmp_path: Path) -> None:
    code = "import api.app, deployments.app, deployments.platform; print('torch' in sys.modules)"
    assert run_python(code, tmp_path).stdout.strip() == "False"


def test_the_platform_module_itself_loads_no_ray(tmp_path: Path) -> None:
    """Ray reads its environment when it is imported, so the platform must come first."""
    assert run_python("import deployments.platform; print('ray' in sys.modules)", tmp_path).stdout.strip() == "False"


def test_a_port_in_use_is_named(write_config: ConfigWriter) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PlatformError, match=f"127.0.0.1:{port}"):
            platform_module.require_free("127.0.0.1", port)


@pytest.mark.ray
@pytest.mark.slow
def test_a_second_platform_in_one_process_is_refused(platform: Platform, write_config: ConfigWriter) -> None:
    with pytest.raises(PlatformError, match="already runs"):
        platform_module.start(write_config(), free_port())


STOP_UNDER_A_STREAM = """
import threading
from contextlib import ExitStack
import httpx2
from api.local_services import local_services
from api.settings import Settings
from deployments import platform
from benchmarks.processes import descendants

services = ExitStack()
services.enter_context(local_services(Settings()))
running = platform.start({config!r}, {port}, num_cpus=2)
body = {{"prompt": "a tune", "duration": 5, "seed": 1, "format": "pcm"}}
replicas = running.replicas()["musicgen-tiny"]
first, got = threading.Event(), bytearray()

def listen():
    with httpx2.stream("POST", running.url + "/api/v1/generate/stream", json=body, timeout=60, trust_env=False) as r:
        for piece in r.iter_raw():
            got.extend(piece)
            first.set()
        got_all.append(len(got) == int(r.headers["content-length"]))

got_all = []
listener = threading.Thread(target=listen)
listener.start()
assert first.wait(60)
running.stop()
listener.join(60)
services.close()
print(replicas, got_all, [title for title in descendants().values() if "ray" in title])
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_start_brings_the_replicas_of_the_file_and_a_stop_drains_and_leaves_nothing(
    write_config: ConfigWriter, tmp_path: Path
) -> None:
    """In a process of its own, started in a folder that has modules of the same names."""
    for name in ("api", "deployments", "models"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('this is another project')")
    done = run_python(STOP_UNDER_A_STREAM.format(config=str(write_config(replicas=2)), port=free_port()), tmp_path)
    assert done.stdout.strip() == "2 [True] []", done.stderr
    assert done.stderr == ""
