"""The tracks of one account: listed, found, removed. Every query is scoped to it here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from api import cursor as cursors
from api.errors import ApiError, ErrorCode
from api.generations import referring
from api.generations.view import TERMINAL, State
from api.store.schema import tracks

_ID = re.compile(r"trk_[0-9a-f]{24}")
_EQUAL = ("campaign_id", "client_id", "brief_id", "collection", "model_id", "generation_id")
# Everything but the waveform, which is 2 kB a row.
_COLUMNS = tuple(column for column in tracks.c if column.name != "peaks")


@dataclass(frozen=True, slots=True)
class Filters:
    """Which tracks to list; None: all.

    Attributes:
        created_after, created_before: both exclusive.
        q: text that the prompt holds; case does not matter (of the letters a-z on SQLite).
    """

    campaign_id: str | None = None
    client_id: str | None = None
    brief_id: str | None = None
    collection: str | None = None
    model_id: str | None = None
    generation_id: str | None = None
    state: State | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    q: str | None = None


async def page(
    conn: AsyncConnection, account_id: str, filters: Filters, limit: int, cursor: str | None
) -> tuple[list[Row[Any]], str | None]:
    """A page of tracks, the newest first, and the cursor of the next one; None: this was the last.

    Raises:
        ApiError: invalid_parameter: the cursor is none of ours.
    """
    newest = (tracks.c.created_at, tracks.c.id)
    wanted = _filtered(select(*_COLUMNS).where(tracks.c.account_id == account_id), filters)
    if cursor is not None:
        wanted = wanted.where(tuple_(*newest) < tuple_(*cursors.read(cursor)))
    ordered = wanted.order_by(*(column.desc() for column in newest)).limit(limit + 1)
    rows = (await conn.execute(ordered)).all()
    shown = list(rows[:limit])
    return shown, cursors.write(shown[-1].created_at, shown[-1].id) if len(rows) > limit else None


async def get(conn: AsyncConnection, account_id: str, track_id: str) -> Row[Any]:
    """The whole row.

    Raises:
        ApiError: audio_not_found, also for a track of somebody else.
    """
    return await _find(conn, select(tracks), account_id, track_id)


async def remove(conn: AsyncConnection, account_id: str, track_id: str, now: datetime) -> None:
    """Delete the row; its object follows from the outbox, at the latest when storage is back.

    Raises:
        ApiError: audio_not_found; track_busy: it is still being made.
    """
    row = await _find(conn, select(tracks).with_for_update(), account_id, track_id)
    if State(row.state) not in TERMINAL:
        raise ApiError(ErrorCode.TRACK_BUSY)
    await conn.execute(delete(tracks).where(tracks.c.id == row.id))
    if row.object_key is not None:
        await referring.delete_object(conn, account_id, row.id, row.object_key, now)


async def _find(conn: AsyncConnection, query: Select[Any], account_id: str, track_id: str) -> Row[Any]:
    # PostgreSQL would not even look for text with a NUL in it.
    wanted = query.where(tracks.c.id == track_id, tracks.c.account_id == account_id)
    row: Row[Any] | None = (await conn.execute(wanted)).one_or_none() if _ID.fullmatch(track_id) else None
    if row is None:
        raise ApiError(ErrorCode.AUDIO_NOT_FOUND)
    return row


def _filtered(query: Select[Any], filters: Filters) -> Select[Any]:
    for name in (*_EQUAL, "state"):
        value = getattr(filters, name)
        if value is not None:
            query = query.where(tracks.c[name] == value)
    if filters.created_after is not None:
        query = query.where(tracks.c.created_at > filters.created_after)
    if filters.created_before is not None:
        query = query.where(tracks.c.created_at < filters.created_before)
    if filters.q is not None:
        query = query.where(tracks.c.prompt.icontains(filters.q, autoescape=True))
    return query
