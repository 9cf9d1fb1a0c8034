"""The platform, for what holds of every route: in production, and in development for who asks from this machine."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api.cache.embedded import EmbeddedValkey
from tests.api.conventions.resources import WITH_WEBHOOKS
from tests.api.platform import Platform, start


@pytest.fixture
async def platform(sqlite_database_url: str, valkey: EmbeddedValkey, tmp_path: Path) -> AsyncIterator[Platform]:
    """In production mode; its models make at most two seconds."""
    async with start(
        database_url=sqlite_database_url, redis_url=valkey.url, folder=tmp_path / "platform", max_duration_s=2.0
    ) as running:
        yield running


@pytest.fixture
async def peopled(sqlite_database_url: str, valkey: EmbeddedValkey, tmp_path: Path) -> AsyncIterator[Platform]:
    """One in which ``resources.owned`` can make one of everything; its clients come from elsewhere: none is local."""
    folder = tmp_path / "platform"
    where: dict[str, Any] = {"database_url": sqlite_database_url, "redis_url": valkey.url, "folder": folder}
    async with start(**where, **WITH_WEBHOOKS, max_duration_s=2.0) as running:
        yield running


@pytest.fixture
def stream() -> io.StringIO:
    """Where a logger writes."""
    return io.StringIO()
