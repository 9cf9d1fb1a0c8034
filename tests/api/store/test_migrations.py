"""The schema's history on both databases: up, down, at once, and with the data of the first deployments."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError

from api.ids import new_id
from api.store import upgrade
from api.store.database import Database, StoreError, check, migrate
from api.store.schema import accounts, generations, metadata, tracks
from tests.api.postgres import PostgresServer

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without anything in it; SQLite's file is not even there."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/new/tutti.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    name = new_id("empty")
    server.run(f"CREATE DATABASE {name}")
    return server.url(name)


async def _inspected(url: str, look: Any) -> Any:
    db = Database.connect(url)
    try:
        async with db.read() as connection:
            return await connection.run_sync(look)
    finally:
        await db.close()


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


async def test_history_ends_where_the_schema_is(empty_url: str) -> None:
    await migrate(empty_url)

    def differences(connection: Connection) -> list[Any]:
        # On SQLite Alembic takes an empty string for another one than itself.
        defaults = connection.dialect.name == "postgresql"
        options = {"compare_type": True, "compare_server_default": defaults, "target_metadata": metadata}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    assert await _inspected(empty_url, differences) == []


async def test_constraints_and_checks_have_the_schema_s_names(empty_url: str) -> None:
    """What compare_metadata does not look at."""
    await migrate(empty_url)

    def names(connection: Connection) -> set[str]:
        reflected = MetaData()
        reflected.reflect(connection)
        checks = inspect(connection).get_check_constraints("generations")
        found = {str(c.name) for table in reflected.tables.values() for c in table.constraints if c.name}
        return found | {str(check["name"]) for check in checks}

    expected = {str(c.name) for table in metadata.tables.values() for c in table.constraints if c.name}
    assert expected <= await _inspected(empty_url, names)


async def test_up_down_up(empty_url: str) -> None:
    await migrate(empty_url)
    assert await _inspected(empty_url, _tables) == {*metadata.tables, "alembic_version"}
    await upgrade.downgrade(empty_url, "base")
    assert await _inspected(empty_url, _tables) == {"alembic_version"}
    await migrate(empty_url)
    await migrate(empty_url)  # nothing left to do
    assert await _inspected(empty_url, _tables) == {*metadata.tables, "alembic_version"}


async def test_many_starters_at_once(empty_url: str) -> None:
    await asyncio.gather(*(migrate(empty_url) for _ in range(4)))
    assert await _inspected(empty_url, _tables) == {*metadata.tables, "alembic_version"}


def _legacy_track(account_id: str, **values: Any) -> dict[str, Any]:
    return {
        "id": new_id("trk"), "generation_id": None, "account_id": account_id, "position": 3, "seed": 7,
        "state": "succeeded", "object_key": "a/b", "sample_rate": 32_000, "channels": 1, "total_samples": 48_000,
        "model_id": "tiny", "prompt": "calm piano", "campaign_id": "spring", "metadata": {"a": [1]},
        "created_at": NOW, "finished_at": None, **values,
    }  # fmt: skip


async def test_a_legacy_track_is_linked_then_the_column_is_required(empty_url: str) -> None:
    await upgrade.upgrade(empty_url, "0003")
    account: dict[str, Any] = {"id": new_id("acc"), "tier": "pro", "created_at": NOW}
    legacy = _legacy_track(account["id"])
    unfinished = _legacy_track(account["id"], state="running", object_key=None, total_samples=None, sample_rate=None)
    db = Database.connect(empty_url)
    async with db.begin() as connection:
        await connection.execute(insert(accounts).values(account))
        await connection.execute(insert(tracks), [legacy, unfinished])
    await db.close()

    await migrate(empty_url)

    async with db.read() as connection:
        found = {row.id: row for row in await connection.execute(select(tracks))}
        made = {row.id: row for row in await connection.execute(select(generations))}
    assert len(made) == 2
    track, generation = found[legacy["id"]], made[found[legacy["id"]].generation_id]
    assert (track.position, track.state, track.object_key) == (0, "succeeded", "a/b")
    assert track.generation_id == "gen_" + legacy["id"].removeprefix("trk_")
    assert (generation.state, generation.account_id, generation.tier) == ("succeeded", account["id"], "pro")
    assert (generation.num_tracks, generation.duration_s, generation.seed) == (1, 1.5, 7)
    assert (generation.prompt, generation.model_id, generation.campaign_id) == ("calm piano", "tiny", "spring")
    assert (generation.metadata, generation.sampling, generation.error) == ({"a": [1]}, {}, None)
    assert generation.created_at == generation.finished_at == NOW
    failed = made[found[unfinished["id"]].generation_id]
    assert (failed.state, found[unfinished["id"]].state, failed.duration_s) == ("failed", "failed", 0)
    assert failed.error["code"] == "generation_failed"

    with pytest.raises(IntegrityError):
        async with db.begin() as connection:
            await connection.execute(update(tracks).values(generation_id=None))
    await db.close()

    await upgrade.downgrade(empty_url, "0003")
    async with db.read() as connection:
        assert list(await connection.scalars(select(tracks.c.generation_id))) == [None, None]
        assert list(await connection.execute(select(generations.c.id))) == []
    await db.close()


async def test_check_says_what_to_do(empty_url: str) -> None:
    db = Database.connect(empty_url)
    if db.dialect == "sqlite":
        assert "does the folder exist" in str(await check(db))
    else:
        assert "no schema yet: run `tutti db upgrade`" in str(await check(db))
    await upgrade.upgrade(empty_url, "0004")
    assert f"is 0004, this version needs {upgrade.head()}: run `tutti db upgrade`" in str(await check(db))
    await migrate(empty_url)
    assert await check(db) is True
    async with db.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert "is 9999, which this version does not know" in str(await check(db))
    with pytest.raises(StoreError, match="newer version"):
        await migrate(empty_url)
    await db.close()
