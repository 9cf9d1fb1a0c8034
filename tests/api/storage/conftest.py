"""Accounts in a real database, and every kind of object store that needs no server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import insert

from api.clock import utc_now
from api.ids import new_id
from api.storage.audio import AudioLibrary
from api.storage.objects import ObjectStore
from api.storage.vault import Vault
from api.store.database import Database
from api.store.schema import accounts

MASTER = {"m1": bytes(range(32))}
NewAccount = Callable[[], Awaitable[str]]


@pytest.fixture(params=["file", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return ObjectStore.from_url(f"file://{tmp_path}/objects" if request.param == "file" else "memory:///")


@pytest.fixture
def new_account(database: Database) -> NewAccount:
    async def make() -> str:
        account_id = new_id("acc")
        async with database.begin() as conn:
            await conn.execute(insert(accounts).values(id=account_id, created_at=utc_now()))
        return account_id

    return make


@pytest.fixture
def vault(database: Database) -> Vault:
    return Vault(database, MASTER, utc_now)


@pytest.fixture
def library(vault: Vault) -> AudioLibrary:
    return AudioLibrary(ObjectStore.from_url("memory:///"), vault)
