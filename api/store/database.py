"""The one way to the database: short transactions on SQLite or PostgreSQL, with the same meaning on both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal, Self

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.store import engines
from api.store.errors import StoreError

__all__ = ["Database", "StoreError", "check", "migrate", "prepare_check"]


class Database:
    """Two pools of connections, one that writes and one that cannot.

    Belongs to the event loop in which it is first used. Several processes may hold one each on the same database.

    Attributes:
        dialect: "sqlite" or "postgresql".
        url: where it is, without the password.
    """

    def __init__(self, url: URL, writer: AsyncEngine, reader: AsyncEngine) -> None:
        self._url = url
        self._writer = writer
        self._reader = reader
        # A pool hands a connection to whoever asks first after it came back, which is its last user; a lock has a line.
        self._turn = asyncio.Lock() if url.get_backend_name() == engines.SQLITE else None
        self.dialect = url.get_backend_name()
        self.url = engines.describe(url)

    @classmethod
    def connect(cls, url: str) -> Self:
        """Make the pools; the first transaction opens the first connection.

        Raises:
            StoreError: the URL names no database that is supported.
        """
        parsed = engines.parse(url)
        return cls(parsed, engines.make_engine(parsed, read_only=False), engines.make_engine(parsed, read_only=True))

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """One write transaction: committed when the block ends, rolled back when it raises or is cancelled.

        Keep it short and await nothing but the database in it: on SQLite it holds the only write lock there is. For
        that reason a second begin() inside of it waits for itself. On PostgreSQL it is READ COMMITTED.

        Raises:
            StoreError: unreachable, busy, or the schema is another version's.
            IntegrityError, …: what a statement of the block does wrong comes through as it is.
        """
        async with self._in_turn(), self._open(self._writer) as connection, connection.begin():
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection on which writing is refused by the database.

        On SQLite all statements of the block see one snapshot; on PostgreSQL each sees what is committed when it
        begins, so that what must agree has to come from one statement.

        Raises:
            StoreError: as begin().
        """
        async with self._open(self._reader) as connection:
            yield connection

    async def close(self) -> None:
        """Close every connection; may be called more than once."""
        await engines.close(self._writer)
        await engines.close(self._reader)

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        if self._turn is None:
            yield
            return
        try:
            async with asyncio.timeout(engines.POOL_TIMEOUT_S):
                await self._turn.acquire()
        except TimeoutError:
            raise self._crowded() from None
        try:
            yield
        finally:
            self._turn.release()

    def _crowded(self) -> StoreError:
        return StoreError(
            f"no connection to {self.url} became free in {engines.POOL_TIMEOUT_S:g} s: too much is asked of it, or one "
            "transaction is opened inside another"
        )

    @asynccontextmanager
    async def _open(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        opened = False
        try:
            async with engine.connect() as connection:
                opened = True
                yield connection
        except PoolTimeoutError as error:
            raise self._crowded() from error
        except engines.connect_errors(self._url) as error:
            if opened and not isinstance(error, DBAPIError):
                raise  # the block's own
            explained = engines.explain(self._url, error) if isinstance(error, DBAPIError) else None
            if explained is not None:
                raise explained from error
            if opened:
                raise
            raise StoreError(
                f"cannot connect to {self.url}: {error}. Is it running, and is TUTTI_DATABASE_URL right?"
            ) from error


async def migrate(url: str) -> None:
    """Bring the schema to this version's, making the database's file if there is none. Any number may start at once.

    Raises:
        StoreError: unreachable, or the schema is newer than this version of Tutti.
    """
    from api.store import upgrade

    await upgrade.upgrade(url)


async def check(db: Database) -> Literal[True] | str:
    """True when the database answers and has this version's schema; otherwise what is wrong and what to do."""
    await prepare_check()
    from api.store import upgrade

    try:
        async with db.read() as connection:
            return await upgrade.compare(connection, db.url)
    except StoreError as error:
        return str(error)


async def prepare_check() -> None:
    """Load Alembic and the schema's history, in a thread: most of a second, in which nobody else would be answered."""
    await asyncio.to_thread(_load_history)


def _load_history() -> None:
    from api.store import upgrade

    upgrade.head()
