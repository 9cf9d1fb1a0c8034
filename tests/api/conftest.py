"""One application around a fake generator, in memory or behind a real server."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from api.cache.client import Cache
from api.cache.embedded import EmbeddedValkey
from api.ids import new_id
from api.settings import Settings
from api.store.database import Database, migrate
from tests.api.fakes import FakeGenerator
from tests.api.platform import Platform, start
from tests.api.postgres import PostgresServer, running_postgres
from tests.api.streams.stage import Stage

Serve = Callable[[ASGIApp], AbstractAsyncContextManager[str]]
MakePlatform = Callable[..., Awaitable[Platform]]


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where settings without one keep their data: a folder of this test's own, not the repository's."""
    monkeypatch.setenv("TUTTI_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def generator() -> FakeGenerator:
    return FakeGenerator()


@pytest.fixture
def log() -> structlog.testing.LogCapture:
    return structlog.testing.LogCapture()


@pytest.fixture
async def make_platform(
    sqlite_database_url: str, valkey: EmbeddedValkey, tmp_path: Path, log: structlog.testing.LogCapture
) -> AsyncIterator[MakePlatform]:
    """Platforms in development; arguments are generators, keywords settings. Their log is captured."""
    wrapper = structlog.make_filtering_bound_logger(0)
    logger: Any = structlog.wrap_logger(None, processors=[log], wrapper_class=wrapper)
    where: dict[str, Any] = {"database_url": sqlite_database_url, "redis_url": valkey.url}
    async with AsyncExitStack() as stack:

        async def make(*generators: FakeGenerator, **settings: Any) -> Platform:
            given = {"environment": "development", "log": logger.bind(), "folder": tmp_path / new_id("platform")}
            return await stack.enter_async_context(start(*generators, **where, **{**given, **settings}))

        yield make


@pytest.fixture
async def app(make_platform: MakePlatform, generator: FakeGenerator) -> FastAPI:
    """Of a platform in development, whose worker runs."""
    return (await make_platform(generator)).app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """On the server's own machine, without a credential. The server does not raise: what a real client would see."""
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as connected:
        yield connected


@pytest.fixture
def serve() -> Serve:
    """A real server on a free port of the loopback interface."""

    @asynccontextmanager
    async def running(app: ASGIApp) -> AsyncIterator[str]:
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                server.should_exit = True
                await serving

    return running


# ------------------------------------------------------------------------------------------- databases
@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL, started by the first test that asks for one."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """The name of a database that holds the schema, from which others are copied."""
    postgres.run("CREATE DATABASE template_tutti")
    asyncio.run(migrate(postgres.url("template_tutti")))
    return "template_tutti"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that holds the schema, from which others are copied."""
    file = tmp_path_factory.mktemp("template") / "tutti.db"
    asyncio.run(migrate(f"sqlite+aiosqlite:///{file}"))
    return file


@pytest.fixture
def sqlite_database_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A file of this test's own with the schema in it."""
    shutil.copy(sqlite_template, tmp_path / "tutti.db")
    return f"sqlite+aiosqlite:///{tmp_path / 'tutti.db'}"


@pytest.fixture(scope="session")
def postgres_spares() -> list[str]:
    """Names of databases that tests have left, emptied."""
    return []


@pytest.fixture
def postgresql_database_url(
    postgres: PostgresServer, postgres_template: str, postgres_spares: list[str]
) -> Iterator[str]:
    """A PostgreSQL database of this test's own with the schema in it, and no row."""
    if not postgres_spares:
        postgres_spares.append(new_id("test"))
        postgres.run(f"CREATE DATABASE {postgres_spares[0]} TEMPLATE {postgres_template}")
    name = postgres_spares.pop()
    yield postgres.url(name)
    if postgres.is_emptied(name):
        postgres_spares.append(name)
    else:  # the test has taken a table away
        postgres.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database of this test's own with the schema in it, once for each kind."""
    return str(request.getfixturevalue(f"{request.param}_database_url"))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An empty database of this version's schema: every test that asks runs on SQLite and on PostgreSQL."""
    connected = Database.connect(database_url)
    yield connected
    await connected.close()


# ----------------------------------------------------------------------------------------------- cache
@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedValkey]:
    """A real Valkey, started by the first test that asks for one."""
    with EmbeddedValkey() as server:
        yield server


@pytest.fixture
async def cache(valkey: EmbeddedValkey) -> AsyncIterator[Cache]:
    """An empty Valkey, with a prefix of this test's own."""
    connected = Cache.connect(valkey.url, prefix=f"{new_id('test')}:")
    await connected.redis.flushall()
    yield connected
    await connected.close()


# ---------------------------------------------------------------------------------------------- streams
@pytest.fixture
async def make_stage(
    valkey: EmbeddedValkey,
    cache: Cache,
    sqlite_database_url: str,
    tmp_path: Path,
    log: structlog.testing.LogCapture,
) -> AsyncIterator[Callable[..., Awaitable[Stage]]]:
    """Gateways and workers around these generators; keyword arguments are settings. (``cache`` flushed the Valkey.)"""
    async with AsyncExitStack() as stack:

        async def make(*generators: FakeGenerator, **settings: Any) -> Stage:
            given = {"data_dir": tmp_path, "database_url": sqlite_database_url, "redis_url": valkey.url, **settings}
            stage = Stage(Settings(**given), dict(zip(["tiny", "small"], generators, strict=False)), log)
            await stack.enter_async_context(stage.open)
            await stage.gateway()
            return stage

        yield make


@pytest.fixture
async def stage(make_stage: Callable[..., Awaitable[Stage]], generator: FakeGenerator) -> Stage:
    """One gateway, no worker yet."""
    return await make_stage(generator)
