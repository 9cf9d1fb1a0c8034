"""SQLite's asyncio connection, with fewer hops to its thread and a wait for the lock that can be cancelled.

A hop wakes a thread and then the event loop, which costs more than what SQLite does in between: the stock connection
takes three or four per statement, this one takes one. Whatever may wait or read still happens in the thread. And where
SQLite itself would sleep in the thread until another process gives the write lock back, for up to 100 ms at a time and
deaf to cancels, here the event loop asks again every few milliseconds.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import deque
from collections.abc import Callable
from typing import Any

from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_cursor
from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_connection

BEGIN_IMMEDIATE = "BEGIN IMMEDIATE"
BEGIN_READING = "BEGIN"
_RETRY_S = (0.001, 0.005)


class OneHopCursor(AsyncAdapt_dbapi_cursor):
    """Executes and fetches in one go; opening and closing a cursor touch no file and happen right here."""

    __slots__ = ()
    _awaitable_cursor_close = False

    def _make_new_cursor(self, connection: Any) -> Any:
        raw: sqlite3.Connection = connection._conn
        return raw.cursor()

    def _aenter_cursor(self, cursor: Any) -> Any:
        return cursor

    async def _execute_async(self, operation: Any, parameters: Any) -> Any:
        if operation == BEGIN_IMMEDIATE:
            return await self._take_lock()
        if operation == BEGIN_READING:
            # SQLite takes a reader's snapshot with its first statement: they go into the thread together.
            connection: Any = self._adapt_connection
            connection.begins_reading = True
            return self
        return await self._run(lambda: self._cursor.execute(operation, () if parameters is None else parameters))

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> Any:
        return await self._run(lambda: self._cursor.executemany(operation, seq_of_parameters))

    async def _take_lock(self) -> Any:
        """Begin as soon as no other process writes; the error at the end of the wait is SQLite's own."""
        connection: Any = self._adapt_connection
        loop = asyncio.get_running_loop()
        deadline = loop.time() + connection.lock_timeout_s
        cursor: Any = self._cursor

        def begin() -> None:
            cursor.execute("PRAGMA busy_timeout=0")
            try:
                cursor.execute(BEGIN_IMMEDIATE)
            finally:
                cursor.execute(f"PRAGMA busy_timeout={round(1000 * connection.lock_timeout_s)}")

        while True:
            try:
                return await self._run(begin)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or loop.time() > deadline:
                    raise
            await asyncio.sleep(random.uniform(*_RETRY_S))

    async def _run(self, execute: Callable[[], Any]) -> Any:
        cursor: Any = self._cursor
        connection: Any = self._adapt_connection

        def work() -> list[Any]:
            if connection.begins_reading:
                connection.begins_reading = False
                cursor.execute(BEGIN_READING)
            execute()
            return cursor.fetchall() if cursor.description else []

        async with connection._execute_mutex:
            self._rows = deque(await connection.run(work))
        return self


class OneHopConnection(AsyncAdapt_aiosqlite_connection):
    """Made from a stock connection. Other processes' write transactions are waited for during ``lock_timeout_s``.

    Args:
        read_only: nothing is written through it.
    """

    __slots__ = ("_is_idle", "_read_only", "begins_reading", "lock_timeout_s")
    _cursor_cls = OneHopCursor  # type: ignore[assignment]  # the stock class differs in name only

    def __init__(self, stock: AsyncAdapt_aiosqlite_connection, lock_timeout_s: float, *, read_only: bool) -> None:
        super().__init__(stock.dbapi, stock._connection)
        self.lock_timeout_s = lock_timeout_s
        self._read_only = read_only
        self.begins_reading = False
        self._is_idle = True

    async def run(self, work: Callable[[], Any]) -> Any:
        """Do this in the connection's thread."""
        connection: Any = self._connection
        self._is_idle = False
        try:
            result = await connection._execute(work)
        except Exception:
            self._is_idle = True
            raise
        # Only now: a caller that was cancelled has left its statement behind, running.
        self._is_idle = True
        return result

    def rollback(self) -> None:
        """Nothing is done when there is nothing to undo: the pool asks at every return of a connection. And a reader's
        snapshot is given back right here, which touches shared memory only."""
        connection: Any = self._connection
        if self._is_idle:
            self.begins_reading = False
            if not connection.in_transaction:
                return
            if self._read_only:
                connection._conn.rollback()
                return
        super().rollback()
