"""How the two databases are opened: everything that differs between SQLite and PostgreSQL lies here."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import aiosqlite
from sqlalchemy import URL, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from api.store.errors import StoreError
from api.store.sqlite_connection import BEGIN_IMMEDIATE, BEGIN_READING, OneHopConnection

SQLITE = "sqlite"
POSTGRESQL = "postgresql"
_DRIVERS = {SQLITE: "sqlite+aiosqlite", POSTGRESQL: "postgresql+asyncpg"}

# SQLite: a commit is on the disk before it is answered. NORMAL would lose the last commits at a power cut, which were
# accepted work (what it would save: python -m benchmarks.store_bench --synchronous NORMAL).
SYNCHRONOUS = "FULL"
BUSY_TIMEOUT_S = 10.0  # how long a writer waits for the writers of other processes
POOL_TIMEOUT_S = 10.0  # how long a caller waits for a connection of this process
CONNECT_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_MS = 30_000
SQLITE_READERS = 4  # each is a thread
_THREAD_END_S = 5.0
POSTGRESQL_CONNECTIONS = 8  # for writing, and as many for reading, per process

_opened: WeakKeyDictionary[AsyncEngine, list[aiosqlite.Connection]] = WeakKeyDictionary()
"""SQLite's connections, as far as their threads live."""


def parse(url: str) -> URL:
    """The URL with its asyncio driver.

    Raises:
        StoreError: no URL, a database that is not supported, or SQLite without a file.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError("the database's URL cannot be read: use sqlite+aiosqlite:///FILE or postgresql://…") from None
    name = parsed.get_backend_name()
    if name not in _DRIVERS:
        raise StoreError(f"{name} is not supported: use sqlite+aiosqlite:///FILE or postgresql://USER@HOST/DATABASE")
    if name == SQLITE and parsed.database in (None, "", ":memory:"):
        raise StoreError("SQLite needs a file here, since several processes share it: sqlite+aiosqlite:///FILE")
    if name == SQLITE and not Path(str(parsed.database)).is_absolute():
        raise StoreError(
            "SQLite's file needs its whole path, since the processes of the platform run in different folders: "
            "sqlite+aiosqlite:////FOLDER/FILE"
        )
    return parsed.set(drivername=_DRIVERS[name])


def describe(url: URL) -> str:
    """The URL without its password, for messages."""
    return url.render_as_string(hide_password=True)


def make_engine(url: URL, *, read_only: bool) -> AsyncEngine:
    """A pool of connections; opens none of them.

    SQLite has one writer at a time anyway, so one connection writes and callers wait for it in a line (see Database),
    which polling the file's lock would not give them. Readers have connections of their own and never wait (WAL).
    """
    if url.get_backend_name() == POSTGRESQL:
        return _postgresql(url, read_only)
    opened: list[aiosqlite.Connection] = []

    def connect(*args: Any, **kwargs: Any) -> aiosqlite.Connection:
        opened[:] = [each for each in opened if each._thread.is_alive()]
        connection = aiosqlite.connect(*args, **kwargs)
        connection._thread.daemon = True  # as SQLAlchemy does when it connects by itself
        opened.append(connection)
        return connection

    engine = create_async_engine(
        url,
        connect_args={
            "timeout": BUSY_TIMEOUT_S,
            "isolation_level": None,  # None: the driver begins nothing by itself
            "async_creator_fn": connect,
        },
        pool_size=SQLITE_READERS if read_only else 1,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
    )
    _configure_sqlite(engine, foreign_keys=True, read_only=read_only)
    _opened[engine] = opened
    return engine


async def close(engine: AsyncEngine) -> None:
    """Close its connections; what is still in use is closed when it comes back.

    A connection whose user was cancelled is told to stop and waited for by nobody, and its thread would then speak to
    an event loop that is gone. So their threads are waited for, some seconds at most.
    """
    await engine.dispose()
    for connection in _opened.get(engine, ()):
        if not connection._running:
            await asyncio.to_thread(connection._thread.join, _THREAD_END_S)


def make_migration_engine(url: URL, wait_s: float) -> AsyncEngine:
    """One connection at a time that may change the schema; ``wait_s`` is how long it waits for other starters."""
    if url.get_backend_name() == POSTGRESQL:
        return create_async_engine(url, poolclass=NullPool, connect_args={"timeout": CONNECT_TIMEOUT_S})
    engine = create_async_engine(url, poolclass=NullPool, connect_args={"timeout": wait_s, "isolation_level": None})
    # SQLite alters a table by making it anew, and while it is away what refers to it refers to nothing.
    _configure_sqlite(engine, foreign_keys=False, read_only=False)
    return engine


def _postgresql(url: URL, read_only: bool) -> AsyncEngine:
    server_settings = {
        "application_name": "tutti",
        "jit": "off",  # every query here is small: compiling it costs more than running it
        "statement_timeout": str(STATEMENT_TIMEOUT_MS),
        "idle_in_transaction_session_timeout": str(STATEMENT_TIMEOUT_MS),
    }
    if read_only:
        server_settings["default_transaction_read_only"] = "on"
    return create_async_engine(
        url,
        # Each statement sees what is committed when it begins, which is all that READ COMMITTED promises too; without
        # BEGIN and ROLLBACK around it a read is one round trip in place of three.
        isolation_level="AUTOCOMMIT" if read_only else "READ COMMITTED",
        connect_args={"timeout": CONNECT_TIMEOUT_S, "server_settings": server_settings},
        pool_size=POSTGRESQL_CONNECTIONS,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        pool_pre_ping=True,  # after a restart of the server nobody meets a dead connection
    )


def _configure_sqlite(engine: AsyncEngine, *, foreign_keys: bool, read_only: bool) -> None:
    pragmas = [
        f"PRAGMA synchronous={SYNCHRONOUS}",
        f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}",
        f"PRAGMA query_only={'ON' if read_only else 'OFF'}",
    ]
    # IMMEDIATE takes the write lock first: two that read and then write would otherwise both fail at the write.
    begin = BEGIN_READING if read_only else BEGIN_IMMEDIATE

    @event.listens_for(engine.sync_engine, "do_connect")
    def connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> OneHopConnection:
        stock = dialect.dbapi.connect(*arguments, **options)
        return OneHopConnection(stock, options["timeout"], read_only=read_only)

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin_transaction(connection: Any) -> None:
        connection.exec_driver_sql(begin)


def connect_errors(url: URL) -> tuple[type[Exception], ...]:
    """What the driver raises when no connection can be made."""
    if url.get_backend_name() == SQLITE:
        return (DBAPIError, OSError)
    import asyncpg

    return (DBAPIError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


def explain(url: URL, error: DBAPIError) -> StoreError | None:
    """What a statement's error means for whoever runs this place; None: it is the statement's own affair."""
    missing = ("no such table", "no such column", "has no column named")
    undefined = ("42P01", "42703")  # PostgreSQL's table and column
    if getattr(error.orig, "sqlstate", None) in undefined or any(words in str(error.orig) for words in missing):
        return StoreError(f"the schema of {describe(url)} is not this version's: run `tutti db upgrade`")
    if isinstance(error.orig, sqlite3.OperationalError):
        return _explain_sqlite(url, error.orig)
    if error.connection_invalidated:
        return StoreError(f"the connection to {describe(url)} broke: try again; is the server being restarted?")
    return None


def _explain_sqlite(url: URL, error: sqlite3.OperationalError) -> StoreError | None:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    where = describe(url)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(f"{where} was locked for {BUSY_TIMEOUT_S:g} s: end the program that keeps a transaction open")
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"the disk below {where} is full: free some space")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
        return StoreError(f"{where} cannot be read or written ({error}): does the folder exist, and is it writable?")
    return None


def sqlite_file(url: URL) -> Path | None:
    return Path(url.database) if url.get_backend_name() == SQLITE and url.database else None
