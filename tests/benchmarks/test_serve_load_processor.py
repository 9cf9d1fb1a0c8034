"""Where a second of audio goes: processor time of real processes, as the kernel counts it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.serve_load.processor import ProcessorTime, name_of

BUSY_S = 0.4
# When it is told to, it uses so much of a core, says so, and stays until it is told to end.
BUSY = f"""
import subprocess, sys, time
sys.stdin.readline()
while time.process_time() < {BUSY_S}: pass
print("done", flush=True)
sys.stdin.read()
"""
PARENT = f"import subprocess, sys; subprocess.run(['{sys.executable}', '-c', {BUSY!r}])"


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc")
def test_what_children_of_children_use_is_counted_and_what_was_used_before_is_not() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with ProcessorTime() as during:
            process.stdin.write("begin\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"
        with ProcessorTime() as after:
            pass
        process.stdin.close()
    spent = during.by_name()
    assert max(spent.values()) >= BUSY_S / 2  # clock ticks of 10 ms
    assert sum(after.by_name().values()) < BUSY_S / 2


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (b"ray::ServeReplica:tutti:musicgen-tiny.handle_request\0", "musicgen-tiny"),
        (b"ray::ServeController.listen_for_change\0", "ServeController"),
        (b"/usr/bin/python3\0-m\0api.cli\0serve\0", "api.cli"),
        (b"/opt/ray/gcs_server --log_dir=/tmp\0", "gcs_server"),
        (b"valkey-server 127.0.0.1:16500\0\0\0", "valkey-server"),
        (b"", "kernel"),
    ],
)
def test_processes_have_names_that_people_know(command: bytes, name: str) -> None:
    assert name_of(command) == name
