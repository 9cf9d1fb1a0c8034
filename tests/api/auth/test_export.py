"""The export holds all that an account owns, and nothing that proves, protects or belongs to somebody else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import select, update

from api.auth import export
from api.auth.export import export_account
from api.store.database import Database
from api.store.schema import metadata, tracks
from tests.api.auth.calls import bearer, code, make_key, register
from tests.api.auth.conftest import Connect, ManualClock, Platform
from tests.api.auth.owned import HIDDEN, SECRET_COLUMNS, fill, owned_tables

EXPORT = "/api/v1/account/export"
MARK = "zelda"  # no hexadecimal digits: ids must not hold it by chance
LEFT_OUT = {"data_keys"}  # secrets through and through


async def exported(database: Database, account_id: str, clock: ManualClock) -> dict[str, Any]:
    text = b"".join([piece async for piece in export_account(database, account_id, clock())]).decode()
    assert HIDDEN not in text
    document: dict[str, Any] = json.loads(text)
    return document


async def test_every_row_and_every_column_is_in_it(database: Database, clock: ManualClock) -> None:
    async with database.begin() as conn:
        account_id = await fill(conn, MARK, rows=2)
        await fill(conn, "bob")
    document = await exported(database, account_id, clock)
    assert document["format"] == "tutti-account-export/1"
    assert document["account"]["id"] == account_id
    assert set(document) == {"format", "exported_at", "account"} | {
        table.name for table in owned_tables() if table.name not in LEFT_OUT
    }
    assert "bob" not in json.dumps(document)
    for table in owned_tables():
        if table.name in LEFT_OUT:
            continue
        rows = document[table.name]
        assert len(rows) == (1 if table.name == "webhook_signing_secrets" else 2), table.name
        for row in rows:
            missing = set(table.c.keys()) - set(row)
            assert missing == set(table.c.keys()) & SECRET_COLUMNS, table.name
    assert "password_hash" not in document["account"]


async def test_values_are_those_that_are_stored(database: Database, clock: ManualClock) -> None:
    async with database.begin() as conn:
        account_id = await fill(conn, MARK)
    document = await exported(database, account_id, clock)
    (track,), (generation,) = document["tracks"], document["generations"]
    assert generation["prompt"] == f"{MARK}-generations-prompt"
    assert generation["metadata"] == {"note": f"{MARK}-generations-metadata"}
    assert generation["created_at"].endswith("+00:00")
    assert track["audio_url"] == f"/api/v1/audio/{track['id']}/data"
    assert track["peaks"], "bytes are base64"


async def test_tables_larger_than_a_batch_come_whole(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "BATCH", 2)
    async with database.begin() as conn:
        account_id = await fill(conn, MARK, rows=5)
    document = await exported(database, account_id, clock)
    async with database.read() as conn:
        for table in owned_tables():
            if table.name not in LEFT_OUT:
                stored = len((await conn.execute(select(table))).all())
                keys = {tuple(row[column.name] for column in table.primary_key) for row in document[table.name]}
                assert len(document[table.name]) == len(keys) == stored, table.name
                assert stored == (1 if table.name == "webhook_signing_secrets" else 5), table.name


async def test_an_account_that_owns_nothing_has_an_export_too(connect: Connect) -> None:
    async with connect() as http:
        grant = await register(http)
        key = (await make_key(http, grant["access_token"]))["key"]
        answer = await http.post(EXPORT, headers=bearer(key))
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-disposition"] == f'attachment; filename="tutti-{grant["account_id"]}.json"'
        document = answer.json()
    assert [len(document["api_keys"]), len(document["refresh_tokens"]), document["tracks"]] == [1, 1, []]
    for secret in (key, grant["refresh_token"]):
        assert secret not in answer.text


async def test_an_export_needs_a_scope(connect: Connect) -> None:
    async with connect() as http:
        token = (await register(http))["access_token"]
        key = (await make_key(http, token, scopes=["audio:read"]))["key"]
        assert code(await http.post(EXPORT, headers=bearer(key))) == "permission_denied"


def test_the_list_of_secrets_names_columns_that_exist() -> None:
    columns = {column for table in metadata.sorted_tables for column in table.columns.keys()}  # noqa: SIM118 no dict
    assert columns >= export.SECRETS
    assert export.SECRETS == SECRET_COLUMNS


async def test_it_is_read_while_it_is_sent(platform: Platform, database: Database, clock: ManualClock) -> None:
    async with database.begin() as conn:
        account_id = await fill(conn, MARK)
    pieces = export_account(database, account_id, clock())
    await anext(pieces)
    async with database.begin() as conn:  # a slow reader holds neither a lock nor a connection
        await conn.execute(update(tracks).values(prompt="written later"))
    rest = b"".join([piece async for piece in pieces]).decode()
    assert "written later" in rest
