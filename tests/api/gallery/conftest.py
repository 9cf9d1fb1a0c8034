"""A gallery, its owner and a stranger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx2
import pytest

from api.routes import gallery
from api.store.database import Database
from tests.api.storage.rows import add_account
from tests.api.storage.stage import Stage


@dataclass
class Gallery:
    stage: Stage
    owner: str
    stranger: str
    mine: httpx2.AsyncClient
    theirs: httpx2.AsyncClient

    @property
    def db(self) -> Database:
        return self.stage.database


@pytest.fixture
async def shown(database: Database) -> AsyncIterator[Gallery]:
    stage = Stage.of(database)
    owner, stranger = await add_account(database), await add_account(database)
    app = stage.app(gallery.router)
    async with stage.client(app, owner) as mine, stage.client(app, stranger) as theirs:
        yield Gallery(stage, owner, stranger, mine, theirs)
