"""All that an account owns, as one JSON document, written while it is read.

The document is made from the tables themselves, so what is stored is what is shown: every table with an ``account_id``,
row by row, but for the columns that prove or protect something (hashes, keys, sealed secrets). Audio is not in it; each
track says where it is.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final

from sqlalchemy import RowMapping, Select, Table, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from api.store.database import Database
from api.store.schema import accounts, data_keys, metadata, tracks, webhook_attempts, webhook_deliveries

SECRETS: Final = frozenset({"password_hash", "token_hash", "key_hash", "secret", "previous_secret", "wrapped"})
FORMAT: Final = "tutti-account-export/1"
BATCH: Final = 200
_LEFT_OUT = frozenset({accounts, data_keys})  # the first is the document's head, the second all secret


async def export_account(db: Database, account_id: str, now: datetime) -> AsyncIterator[bytes]:
    """Pieces of the document. Each batch of rows is read in a transaction of its own, so a slow reader holds none."""
    async with db.read() as conn:
        row = (await conn.execute(select(accounts).where(accounts.c.id == account_id))).mappings().one()
    head = {"format": FORMAT, "exported_at": now.isoformat(), "account": _shown(accounts, row)}
    yield _json(head)[:-1].encode()
    for table in owned_tables():
        yield f', "{table.name}": ['.encode()
        separator = ""
        async for batch in _batches(db, table, account_id):
            yield (separator + ", ".join(_json(_shown(table, row)) for row in batch)).encode()
            separator = ", "
        yield b"]"
    yield b"}"


def owned_tables() -> list[Table]:
    """Those whose rows are an account's, attempts to deliver its webhooks included."""
    owned = [table for table in metadata.sorted_tables if "account_id" in table.c and table not in _LEFT_OUT]
    return [*owned, webhook_attempts]


async def _batches(db: Database, table: Table, account_id: str) -> AsyncIterator[list[RowMapping]]:
    after: tuple[Any, ...] | None = None
    while True:
        async with db.read() as conn:
            rows = await _batch(conn, table, account_id, after)
        if rows:
            yield rows
        if len(rows) < BATCH:
            return
        after = tuple(rows[-1][column.name] for column in table.primary_key)


async def _batch(
    conn: AsyncConnection, table: Table, account_id: str, after: tuple[Any, ...] | None
) -> list[RowMapping]:
    key = list(table.primary_key)
    wanted = _owned_by(table, account_id).order_by(*key).limit(BATCH)
    if after is not None:
        wanted = wanted.where(tuple_(*key) > tuple_(*after, types=[column.type for column in key]))
    return list((await conn.execute(wanted)).mappings())


def _owned_by(table: Table, account_id: str) -> Select[Any]:
    if "account_id" in table.c:
        return select(table).where(table.c.account_id == account_id)
    deliveries = select(webhook_deliveries.c.id).where(webhook_deliveries.c.account_id == account_id)
    return select(table).where(table.c.delivery_id.in_(deliveries))


def _shown(table: Table, row: RowMapping) -> dict[str, Any]:
    shown = {name: value for name, value in row.items() if name not in SECRETS}
    if table is tracks and row["object_key"] is not None:
        shown["audio_url"] = f"/api/v1/audio/{row['id']}/data"
    return shown


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} cannot be exported")
