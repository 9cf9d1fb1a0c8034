"""Transactions mean the same on SQLite and PostgreSQL, whatever interrupts them; errors say what to do."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from api.ids import new_id
from api.store import engines
from api.store.database import Database, StoreError, check
from api.store.schema import accounts, api_keys, outbox, usage_windows
from tests.api.postgres import PostgresServer

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

    async with _writing_elsewhere(database):
        tasks = [asyncio.create_task(work()) for _ in range(5)]
        await asyncio.sleep(0)
        await _count(database)  # readers pass, and meanwhile the tasks have come as far as they can
        for task in tasks[:4]:
            task.cancel()
        done = await asyncio.gather(*tasks[:4], return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in done if each is not None)
    await tasks[4]
    expected = 1 + sum(each is None for each in done)
    assert await _count(database) == expected
    await work()
    assert await _count(database) == expected + 1


@asynccontextmanager
async def _writing_elsewhere(database: Database) -> AsyncIterator[None]:
    """A second process's transaction, as far as this one can tell: another Database."""
    if database.dialect == "postgresql":
        yield
        return
    file = str(database._url.database)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("COMMIT")


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


async def test_sqlite_that_stays_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sqlite_database_url: str
) -> None:
    monkeypatch.setattr(engines, "BUSY_TIMEOUT_S", 0.05)
    db = Database.connect(sqlite_database_url)
    async with _writing_elsewhere(db):
        with pytest.raises(StoreError, match=r"was locked for 0\.05 s: end the program"):
            async with db.begin():
                pass
        assert await check(db) is True
    await db.close()


async def test_a_transaction_inside_another_is_refused_in_the_end(
    monkeypatch: pytest.MonkeyPatch, sqlite_database_url: str
) -> None:
    monkeypatch.setattr(engines, "POOL_TIMEOUT_S", 0.05)
    db = Database.connect(sqlite_database_url)
    async with db.begin():
        with pytest.raises(StoreError, match="one transaction is opened inside another"):
            async with db.begin():
                pass
    await db.close()


async def test_a_postgresql_that_restarts_is_found_again(postgresql_database_url: str) -> None:
    database = Database.connect(postgresql_database_url)
    assert await _count(database) == 0
    with pytest.raises(StoreError, match="broke: try again"):
        async with database.begin() as connection:
            await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    async with database.begin() as connection:
        everyone = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        await connection.execute(text(f"{everyone} AND pid <> pg_backend_pid()"))
    assert await _count(database) == 0  # its connection was ended, and replaced before it was used
    await database.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "cannot be read: use sqlite"),
        ("mysql://host/db", "mysql is not supported: use sqlite"),
        ("sqlite://", "SQLite needs a file"),
        ("sqlite+aiosqlite:///:memory:", "SQLite needs a file"),
        ("sqlite+aiosqlite:///relative.db", "needs its whole path"),
    ],
)
def test_urls_that_cannot_be(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        Database.connect(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://tutti:hush@127.0.0.1:1/tutti", r"cannot connect to postgresql\+asyncpg://tutti:\*\*\*@127"),
        ("sqlite+aiosqlite:////no/such/folder/tutti.db", "does the folder exist, and is it writable"),
    ],
)
async def test_unreachable(url: str, message: str) -> None:
    db = Database.connect(url)
    with pytest.raises(StoreError, match=message) as caught:
        async with db.begin():
            pass
    assert "hush" not in str(caught.value)
    assert "hush" not in str(await check(db))
    await db.close()


async def test_postgresql_refuses_a_database_that_is_not_there(postgres: PostgresServer) -> None:
    wrong = Database.connect(postgres.url("absent"))
    assert 'database "absent" does not exist' in str(await check(wrong))
    await wrong.close()


async def test_a_table_that_is_missing_points_to_the_upgrade(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(text("DROP TABLE webhook_attempts"))
    with pytest.raises(StoreError, match="run `tutti db upgrade`"):
        async with database.read() as connection:
            await connection.execute(text("SELECT * FROM webhook_attempts"))


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "tutti.db").write_bytes(b"x" * 4096)
    db = Database.connect(f"sqlite+aiosqlite:///{tmp_path}/tutti.db")
    assert "not a database" in str(await check(db))
    await db.close()
