"""Parts of a stage on their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from api.cache.bus import Bus
from api.cache.client import Cache
from api.cache.embedded import EmbeddedValkey


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
