"""What all tests share: how Triton runs, what may run side by side, and no deadlines on a machine that others use."""

from __future__ import annotations

import os

import hypothesis
import pytest

from api import cli_retry

# Before anything imports Triton, which decides then how its kernels run: on a CPU, in its interpreter.
os.environ.setdefault("TRITON_INTERPRET", "1")
hypothesis.settings.register_profile("tutti", deadline=None)
hypothesis.settings.load_profile("tutti")

_WHOLE_PLATFORMS = ("tests/deployments/", "tests/crash/", "tests/test_cli_serve.py", "tests/test_cli_interrupt.py")
"""Tests that start Ray, or many processes: one after the other, while the rest runs beside them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers (pytest-xdist) a file's tests stay together, and so do those of whole platforms."""
    for item in items:
        file = item.nodeid.partition("::")[0]
        whole = file.startswith(_WHOLE_PLATFORMS) or item.get_closest_marker("ray") is not None
        item.add_marker(pytest.mark.xdist_group("platform" if whole else file))


@pytest.fixture
def client_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """``tutti generate --url`` has no key, and does not wait between its attempts, of which there are four."""
    monkeypatch.setattr(cli_retry, "RETRY_DELAYS_S", (0.0, 0.0, 0.0))
    monkeypatch.delenv("TUTTI_API_KEY", raising=False)
