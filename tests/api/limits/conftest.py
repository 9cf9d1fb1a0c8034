"""The limits of one process, on a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from api.cache.client import Cache
from api.limits import Limits
from api.settings import Settings
from api.store.database import Database
from tests.api.limits.rows import Hands, add_account


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
async def limits(database: Database, cache: Cache, clock: Hands) -> AsyncIterator[Limits]:
    await add_account(database)
    limits = Limits(Settings(), cache, clock)
    yield limits
    await limits.close()
