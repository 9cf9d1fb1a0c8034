"""A gateway and what it stands on; workers are started by the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from api.cache.bus import Bus
from api.cache.client import Cache
from api.cache.embedded import EmbeddedValkey
from tests.api.fakes import FakeGenerator
from tests.api.streams.stage import Stage, settings_of


@pytest.fixture
async def bus(cache: Cache) -> AsyncIterator[Bus]:
    bus = Bus(cache)
    yield bus
    await bus.close()


@pytest.fixture
def own_valkey() -> Iterator[EmbeddedValkey]:
    """A Valkey that a test may kill; it comes back empty on the same address."""
    with EmbeddedValkey() as server:
        yield server


@pytest.fixture
async def stage(
    valkey: EmbeddedValkey,
    cache: Cache,
    sqlite_database_url: str,
    tmp_path: Path,
    generator: FakeGenerator,
    log: structlog.testing.LogCapture,
) -> AsyncIterator[Stage]:
    """One gateway, no worker. (``cache`` has flushed the Valkey.)"""
    made = Stage(settings_of(tmp_path, sqlite_database_url, valkey.url), generator, log)
    async with made.open:
        await made.gateway()
        yield made
