"""Parts of a stage on their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from websockets.asyncio.client import connect

from api.auth.principal import Principal
from api.cache.bus import Bus
from api.cache.client import Cache
from api.cache.embedded import EmbeddedValkey
from api.streams.tickets import Tickets
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
    async with AsyncExitStack() as stack:
        url = (await stack.enter_async_context(serve(stage.app))).replace("http:", "ws:")

        @asynccontextmanager
        async def connected(ticket: str | None = None, principal: Principal | None = None) -> AsyncIterator[Line]:
            if ticket is None:
                ticket = await Tickets(stage.services.cache).issue(principal or await stage.local())
            async with connect(f"{url}{PATH}?ticket={ticket}", proxy=None) as connection:
                yield Line(connection)

        yield connected
