"""Parts of a stage on their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect

from api.auth.principal import Principal
from api.cache.bus import Bus
from api.cache.client import Cache
from api.cache.embedded import EmbeddedValkey
from api.streams.tickets import Holder, Tickets
from tests.api.conftest import Serve
from tests.api.streams.line import PATH, Dial, Line
from tests.api.streams.stage import Stage


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
async def dial(stage: Stage, serve: Serve) -> AsyncIterator[Dial]:
    """Connect with a ticket, one's own unless it is given."""
    async with dialling(stage, serve) as dial:
        yield dial


@asynccontextmanager
async def dialling(stage: Stage, serve: Serve) -> AsyncIterator[Dial]:
    """The same of any stage."""
    async with serve(stage.app) as url:
        address = url.replace("http:", "ws:")

        @asynccontextmanager
        async def connected(ticket: str | None = None, principal: Principal | None = None) -> AsyncIterator[Line]:
            if ticket is None:
                holder = Holder(principal or await stage.local())
                ticket = await Tickets(stage.services.cache).issue(holder)
            async with connect(f"{address}{PATH}?ticket={ticket}", proxy=None) as connection:
                yield Line(connection)

        yield connected
