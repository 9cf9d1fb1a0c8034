"""What all tests share: how Triton runs, what may run side by side, and no deadlines on a machine that others use."""

from __future__ import annotations

import os
import sys
from typing import Any

import hypothesis
import pytest

from api import cli_retry
from tests.together import PLATFORMS, TogetherScheduling, unit_of

# Before anything imports Triton, which decides then how its kernels run: on a CPU, in its interpreter.
os.environ.setdefault("TRITON_INTERPRET", "1")
# Where bytecode is not kept, each of the hundred processes that tests start compiles all that it imports: seconds each.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
hypothesis.settings.register_profile("tutti", deadline=None)
hypothesis.settings.load_profile("tutti")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole platforms first: one after the other they take longest, and everything else runs beside them."""
    items.sort(key=lambda item: unit_of(item.nodeid) != PLATFORMS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TogetherScheduling:
    """Instead of xdist's own: what is together in one worker does not depend on how pytest makes its ids."""
    return TogetherScheduling(config, log)


@pytest.fixture
def client_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """``tutti generate --url`` has no key, and does not wait between its attempts, of which there are four."""
    monkeypatch.setattr(cli_retry, "RETRY_DELAYS_S", (0.0, 0.0, 0.0))
    monkeypatch.delenv("TUTTI_API_KEY", raising=False)
