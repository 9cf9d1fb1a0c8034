"""Alembic, run from code: the schema's history lies beside this file, and no alembic.ini is needed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.store import engines
from api.store.errors import StoreError

FOLDER = Path(__file__).parent / "migrations"
WAIT_S = 120.0  # for another starter that migrates
_LOCK = 0x7475747469  # "tutti": the advisory lock that migrators of one PostgreSQL database take
_RETRY_S = 0.05


async def upgrade(url: str, revision: str = "head") -> None:
    """Run what the schema lacks, in one transaction under a lock.

    Raises:
        StoreError: unreachable, or the schema is newer than this version.
    """
    await _run(engines.parse(url), lambda config: command.upgrade(config, revision))


async def downgrade(url: str, revision: str) -> None:
    """Undo revisions down to (not including) this one; "base" undoes all.

    Raises:
        StoreError: as upgrade().
    """
    await _run(engines.parse(url), lambda config: command.downgrade(config, revision))


async def compare(connection: AsyncConnection, url: str) -> Literal[True] | str:
    """True when the schema is this version's, otherwise what is wrong and what to do."""
    found = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
    if found == head():
        return True
    if found is None:
        return f"{url} has no schema yet: run `tutti db upgrade`"
    if found in _known():
        return f"the schema of {url} is {found}, this version needs {head()}: run `tutti db upgrade`"
    return f"the schema of {url} is {found}, which this version does not know: run the version of Tutti that made it"


@cache
def head() -> str:
    """The newest revision of this version's history."""
    found = _scripts().get_current_head()
    assert found is not None
    return found


@cache
def _known() -> frozenset[str]:
    return frozenset(script.revision for script in _scripts().walk_revisions())


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    return config


async def _run(url: URL, work: Callable[[Config], None]) -> None:
    engine = engines.make_migration_engine(url, WAIT_S)
    try:
        await _prepare(engine, url)
        async with engine.begin() as connection:
            if url.get_backend_name() == engines.POSTGRESQL:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            await connection.run_sync(_run_alembic, work, engines.describe(url))
    except engines.connect_errors(url) as error:
        explained = engines.explain(url, error) if isinstance(error, DBAPIError) else None
        told = f"cannot migrate {engines.describe(url)}: {error}"
        raise explained or StoreError(told) from error
    finally:
        await engine.dispose()


def _run_alembic(connection: Connection, work: Callable[[Config], None], url: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    try:
        work(config)
    except CommandError as error:
        raise StoreError(f"cannot migrate {url}: {error}. Is it of a newer version of Tutti?") from error
    if connection.dialect.name == engines.SQLITE:
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchone()
        if broken is not None:
            raise StoreError(f"cannot migrate {url}: a row of {broken[0]} refers to nothing in {broken[2]}")


async def _prepare(engine: AsyncEngine, url: URL) -> None:
    """Make the file's folder and switch the file to WAL, which it then stays."""
    file = engines.sqlite_file(url)
    if file is None:
        return
    await asyncio.to_thread(lambda: file.parent.mkdir(parents=True, exist_ok=True))
    deadline = asyncio.get_running_loop().time() + WAIT_S
    while True:
        try:
            async with engine.connect() as connection:
                raw: Any = await connection.get_raw_connection()
                # Outside of any transaction, and without SQLAlchemy beginning one.
                await raw.driver_connection.execute_fetchall("PRAGMA journal_mode=WAL")
            return
        except (OperationalError, sqlite3.OperationalError) as error:
            # While somebody else switches, SQLite says "locked" without waiting.
            if "locked" not in str(error) or asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(_RETRY_S)
