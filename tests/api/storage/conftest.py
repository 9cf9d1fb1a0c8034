"""Accounts in a real database, and object stores: a directory, memory, and S3's protocol behind a real server."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
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
from tests.api.storage.s3_server import BUCKET, S3Server, running_s3

MASTER = {"m1": bytes(range(32))}
NewAccount = Callable[[], Awaitable[str]]


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A real server, started by the first test that asks for one."""
    with running_s3() as server:
        yield server


@pytest.fixture
def s3_environment(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, to which this process's environment leads."""
    for name in {name for name in os.environ if name.startswith("AWS_")}:
        monkeypatch.delenv(name)
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3


@pytest.fixture(params=["file", "memory", "s3"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address of an empty store, once for each kind."""
    if request.param == "s3":
        request.getfixturevalue("s3_environment")
        return f"s3://{BUCKET}/{new_id('test')}"
    return f"file://{tmp_path}/objects" if request.param == "file" else "memory:///"


@pytest.fixture
def objects(storage_url: str) -> ObjectStore:
    return ObjectStore.from_url(storage_url)


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
def library(objects: ObjectStore, vault: Vault) -> AudioLibrary:
    return AudioLibrary(objects, vault)
