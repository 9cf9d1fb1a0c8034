"""Tests that must not run side by side do not, whatever pytest and pytest-xdist make of ids."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.together import PLATFORMS, unit_of

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("nodeid", "unit"),
    [
        ("tests/deployments/test_client.py::test_x", PLATFORMS),
        ("tests/crash/test_crash.py::test_x[a::b@c]", PLATFORMS),
        ("tests/test_cli_serve.py::test_x", PLATFORMS),
        ("tests/test_cli_interrupt.py::test_x", PLATFORMS),
        ("tests/models/test_t5.py::test_x[a::b]", "tests/models/test_t5.py"),
    ],
)
def test_a_test_belongs_to_its_file_or_to_the_platforms(nodeid: str, unit: str) -> None:
    assert unit_of(nodeid) == unit


def test_two_workers_keep_the_tests_of_a_file_together() -> None:
    """In a run of its own, as `make pytest` calls it."""
    files = [f"tests/autoscaling/test_{name}.py" for name in ("arrivals", "cost", "packing")]
    options = ["-n", "2", "--dist", "loadscope", "--no-loadscope-reorder", "-v", "-p", "no:cacheprovider"]
    options += ["-p", "no:schemathesis"]  # which takes longer to import than these tests to run
    command = [sys.executable, "-m", "pytest", *options, *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    ran = [line.split() for line in done.stdout.splitlines() if line.startswith("[gw")]
    assert len(ran) > 10
    assert len({words[0] for words in ran}) == 2
    workers = {file: {words[0] for words in ran if words[-1].startswith(file)} for file in files}
    assert {len(each) for each in workers.values()} == {1}, workers
