"""Generations as they lie in SQL, read."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.generations.view import GenerationView, TrackView
from api.store.schema import generations, tracks


async def read(conn: AsyncConnection, generation_id: str, account_id: str | None = None) -> GenerationView | None:
    """One generation with its tracks; with an account, only if it is that account's."""
    wanted = select(generations).where(generations.c.id == generation_id)
    if account_id is not None:
        wanted = wanted.where(generations.c.account_id == account_id)
    row = (await conn.execute(wanted)).mappings().first()
    if row is None:
        return None
    columns = [tracks.c[name] for name in TrackView.__dataclass_fields__]
    found = await conn.execute(
        select(*columns).where(tracks.c.generation_id == generation_id).order_by(tracks.c.position)
    )
    return GenerationView.of(row, [TrackView.of(each) for each in found.mappings()])
