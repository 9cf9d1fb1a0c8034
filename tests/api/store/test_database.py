"""Transactions mean the same on SQLite and PostgreSQL, whatever interrupts them; errors say what to do."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from threading import enumerate as enumerate_threads
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from api.ids import new_id
from api.store import engines
from api.store.database import Database
from api.store.schema import accounts, api_keys, outbox, usage_windows
from tests.api.store.locks import writing_elsewhere

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def _account(**values: Any) -> dict[str, Any]:
    return {"id": new_id("acc"), "created_at": NOW, **values}


async def _count(db: Database) -> int:
    async with db.read() as connection:
        return int(await connection.scalar(select(func.count()).select_from(accounts)) or 0)


async def test_what_was_committed_is_read_back_as_it_was(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(insert(accounts).values(_account(id="acc_1")))
        event = {"kind": "webhook.event", "payload": {"ü": [1, None]}, "created_at": NOW, "available_at": NOW}
        await connection.execute(insert(outbox), [event, event])
    async with database.read() as connection:
        account = (await connection.execute(select(accounts))).one()
        events = (await connection.execute(select(outbox).order_by(outbox.c.id))).all()
    assert (account.created_at, account.tier, account.virtual_s, account.waiting) == (NOW, "free", 0, False)
    assert [event.payload for event in events] == [{"ü": [1, None]}] * 2
    assert events[0].id < events[1].id


async def test_an_error_in_the_block_undoes_it(database: Database) -> None:
    async def fail(error: Exception) -> None:
        async with database.begin() as connection:
            await connection.execute(insert(accounts).values(_account()))
            raise error

    for error in (ValueError("the block's own"), OSError("the block's own")):
        with pytest.raises(type(error), match="the block's own"):
            await fail(error)
    assert await _count(database) == 0


async def test_constraints_hold_and_come_through(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.begin() as connection:
            await connection.execute(insert(accounts), [_account(email="a@b.c"), _account(email="a@b.c")])
    key = {
        "id": "key_1",
        "account_id": "acc_none",
        "name": "",
        "hint": "",
        "key_hash": "0",
        "mode": "live",
        "scopes": [],
    }
    with pytest.raises(IntegrityError):
        async with database.begin() as connection:
            await connection.execute(insert(api_keys).values(**key, created_at=NOW))
    assert await _count(database) == 0


async def test_reading_cannot_write(database: Database) -> None:
    with pytest.raises(DBAPIError, match=r"readonly|read-only"):
        async with database.read() as connection:
            await connection.execute(insert(accounts).values(_account()))
    assert await _count(database) == 0


async def test_nobody_sees_half_a_transaction(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(insert(accounts).values(_account()))
        assert await _count(database) == 0
    assert await _count(database) == 1


async def test_counters_lose_nothing_among_many_writers(database: Database) -> None:
    account = _account()
    window = {"account_id": account["id"], "window": "hour", "starts_at": NOW}
    async with database.begin() as connection:
        await connection.execute(insert(accounts).values(account))
        await connection.execute(insert(usage_windows).values(window))

    async def take() -> int:
        async with database.begin() as connection:
            room = usage_windows.c.generations < 10
            taken = update(usage_windows).where(room).values(generations=usage_windows.c.generations + 1)
            return (await connection.execute(taken)).rowcount

    assert sum(await asyncio.gather(*(take() for _ in range(30)))) == 10


async def test_writers_of_one_process_come_in_their_order(sqlite_database_url: str) -> None:
    database = Database.connect(sqlite_database_url)
    order: list[int] = []

    async def write(number: int) -> None:
        for _ in range(3):
            async with database.begin():
                order.append(number)

    await asyncio.gather(*(write(number) for number in range(5)))
    await database.close()
    assert order == [0, 1, 2, 3, 4] * 3


@pytest.mark.parametrize("where", ["body", "statement"])
async def test_a_cancelled_transaction_is_undone_and_frees_its_connection(database: Database, where: str) -> None:
    slow = {
        "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000) SELECT max(i) FROM n",
        "postgresql": "SELECT pg_sleep(1)",
    }[database.dialect]
    entered = asyncio.Event()

    async def work() -> None:
        async with database.begin() as connection:
            await connection.execute(insert(accounts).values(_account()))
            entered.set()
            if where == "statement":
                await connection.execute(text(slow))
            await asyncio.Event().wait()

    for _ in range(3 * engines.POSTGRESQL_CONNECTIONS if where == "body" else 3):
        entered.clear()
        task = asyncio.create_task(work())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with database.begin() as connection:
        await connection.execute(insert(accounts).values(_account()))
    assert await _count(database) == 1


async def test_cancelled_while_waiting_for_the_lock(database: Database) -> None:
    async def work() -> None:
        async with database.begin() as connection:
            await connection.execute(insert(accounts).values(_account()))

    async with writing_elsewhere(database):
        tasks = [asyncio.create_task(work()) for _ in range(5)]
        await asyncio.sleep(0)
        await _count(database)  # readers pass, and meanwhile the tasks have come as far as they can
        for task in tasks[:4]:
            task.cancel()
        done = await asyncio.gather(*tasks[:4], return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in done if each is not None)
    await tasks[4]
    done_for_sure = 1 + sum(each is None for each in done)
    written = await _count(database)
    if database.dialect == "sqlite":  # all wait for the one lock, so none has begun
        assert written == done_for_sure
    else:  # nothing waits, and a commit whose answer was cancelled may have been made
        assert done_for_sure <= written <= len(tasks)
    await work()
    assert await _count(database) == written + 1


async def test_processes_share_one_database(database: Database, database_url: str) -> None:
    """Gateways and workers write at once, each from its own process."""
    program = (
        "import asyncio, sys\n"
        "from sqlalchemy import insert\n"
        "from api.clock import utc_now\n"
        "from api.ids import new_id\n"
        "from api.store.database import Database\n"
        "from api.store.schema import accounts\n"
        "async def main():\n"
        "    db = Database.connect(sys.argv[1])\n"
        "    for _ in range(25):\n"
        "        async with db.begin() as connection:\n"
        "            await connection.execute(insert(accounts).values(id=new_id('acc'), created_at=utc_now()))\n"
        "    await db.close()\n"
        "asyncio.run(main())\n"
    )
    processes = [await asyncio.create_subprocess_exec(sys.executable, "-c", program, database_url) for _ in range(3)]
    assert [await process.wait() for process in processes] == [0, 0, 0]
    assert await _count(database) == 75


async def test_sqlite_keeps_what_it_says(tmp_path: Path, sqlite_template: Path) -> None:
    db = Database.connect(f"sqlite+aiosqlite:///{sqlite_template}")
    async with db.begin() as connection:
        found = {
            name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    await db.close()
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}  # 2: FULL


def test_a_closed_database_leaves_no_thread_behind_whoever_was_cancelled(tmp_path: Path) -> None:
    """A thread that outlived its loop would end in an exception that nobody can catch."""
    started: set[Thread] = set()

    async def cancelled() -> None:
        database = Database.connect(f"sqlite+aiosqlite:///{tmp_path / 'file.db'}")
        before = set(enumerate_threads())
        for _ in range(20):
            slow = asyncio.create_task(_slow_read(database))
            await asyncio.sleep(0)  # it has begun to connect, or to read
            # Looked for before the cancel: a thread may be gone as soon as its connection is closed.
            started.update(thread for thread in enumerate_threads() if thread not in before and _is_connection(thread))
            slow.cancel()
            await asyncio.wait([slow])
        await database.close()

    asyncio.run(cancelled())
    assert started
    assert not any(thread.is_alive() for thread in started)


async def _slow_read(database: Database) -> None:
    async with database.read() as connection:
        counting = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) SELECT max(i) FROM n"
        await connection.execute(text(counting))


def _is_connection(thread: Thread) -> bool:
    return "_connection_worker_thread" in thread.name
