"""Before anything imports Triton, which decides then how its kernels run: on a CPU, in its interpreter."""

from __future__ import annotations

import os

import pytest

from api import cli_retry

os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture
def client_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """``tutti generate --url`` has no key, and does not wait between its attempts, of which there are four."""
    monkeypatch.setattr(cli_retry, "RETRY_DELAYS_S", (0.0, 0.0, 0.0))
    monkeypatch.delenv("TUTTI_API_KEY", raising=False)
