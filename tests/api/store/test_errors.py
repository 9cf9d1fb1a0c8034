"""What the database cannot do is said in one sentence that names the place and what to do, never the password."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from api.store import engines
from api.store.database import Database, StoreError, check
from api.store.schema import accounts
from tests.api.postgres import PostgresServer
from tests.api.store.locks import writing_elsewhere


async def _count(db: Database) -> int:
    async with db.read() as connection:
        return int(await connection.scalar(select(func.count()).select_from(accounts)) or 0)


async def test_sqlite_that_stays_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sqlite_database_url: str
) -> None:
    monkeypatch.setattr(engines, "BUSY_TIMEOUT_S", 0.05)
    db = Database.connect(sqlite_database_url)
    async with writing_elsewhere(db):
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
