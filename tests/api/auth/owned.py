"""An account that owns a row in every table there is, each cell of it recognisable as somebody's own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, DateTime, Float, Integer, LargeBinary, String, Table, Text, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.ids import new_id
from api.store.schema import metadata
from api.store.types import UtcDateTime

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HIDDEN = "hidden"  # in what must be in no export
SECRET_COLUMNS = frozenset({"password_hash", "token_hash", "key_hash", "secret", "previous_secret", "wrapped"})

# What says nothing of a person; every other cell does.
_NEUTRAL: dict[str, Any] = {
    "state": "succeeded",
    "status": "active",
    "role": "user",
    "mode": "live",
    "tier": "free",
    "model_id": "tiny",
    "format": "wav",
    "window": "hour",
    "sampling": {"top_k": 250},
    "quota_windows": [],
    "scopes": ["audio:read"],
    "events": ["*"],
    "request_id": "req_1",
    "lease_owner": None,
    "lease_expires_at": None,
    "successor_id": None,
    "erased_at": None,
}


def owned_tables() -> list[Table]:
    """Written here again, without the code's own helper: a test must not ask what it checks."""
    return [table for table in metadata.sorted_tables if {"account_id", "delivery_id"} & set(table.c.keys())]


async def fill(conn: AsyncConnection, mark: str, *, account_id: str | None = None, rows: int = 1) -> str:
    """Make an account and ``rows`` rows of it in every table; returns its id."""
    ids: dict[str, str] = {}
    accounts = metadata.tables["accounts"]
    if account_id is None:
        account_id = new_id("acc")
        await conn.execute(insert(accounts).values(_row(accounts, mark, ids) | {"id": account_id}))
    ids["accounts"] = account_id
    for count in range(rows):
        for table in owned_tables():
            row = _row(table, f"{mark}{count or ''}", ids)
            if "version" in table.primary_key.columns:
                row["version"] = count + 1
            elif set(table.primary_key.columns.keys()) == {"account_id"} and count:
                continue  # one for each account
            await conn.execute(insert(table).values(row))
            if isinstance(row.get("id"), str):
                ids[table.name] = row["id"]
    return account_id


def _row(table: Table, mark: str, ids: Mapping[str, str]) -> dict[str, Any]:
    counted = {column.name for column in table.primary_key if isinstance(column.type, Integer)} - {"version"}
    return {
        column.name: _cell(column, f"{mark}-{table.name}-{column.name}", mark, ids)
        for column in table.c
        if column.name not in counted
    }


def _cell(column: Column[Any], text: str, mark: str, ids: Mapping[str, str]) -> Any:
    reference = next(iter(column.foreign_keys), None)
    if reference is not None:
        return ids[reference.column.table.name]
    if column.primary_key and column.name == "id":
        return new_id("gen")
    if column.name in _NEUTRAL and not isinstance(column.type, Integer | Float):
        return _NEUTRAL[column.name]
    if column.name in SECRET_COLUMNS:
        text = f"{HIDDEN}-{text}"
    return _typed(column, text, mark)


def _typed(column: Column[Any], text: str, mark: str) -> Any:
    kind = column.type
    if isinstance(kind, UtcDateTime | DateTime):
        return NOW.replace(microsecond=sum(map(ord, mark)))  # window starts must differ
    if isinstance(kind, String | Text):
        return text[: kind.length] if kind.length else text
    if isinstance(kind, LargeBinary):
        return text.encode()
    if isinstance(kind, Integer | Float):
        return 1
    return False if kind.python_type is bool else {"note": text}


async def everything(conn: AsyncConnection, account_id: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table; with an account, those that are its own."""
    found: dict[str, list[dict[str, Any]]] = {}
    for table in metadata.sorted_tables:
        rows = [dict(row) for row in (await conn.execute(select(table))).mappings()]
        owner = "id" if table.name == "accounts" else "account_id"
        if account_id is not None:
            rows = [row for row in rows if row.get(owner) == account_id]
        found[table.name] = sorted(rows, key=str)
    return found
