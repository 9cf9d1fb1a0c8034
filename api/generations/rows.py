"""Generations as they lie in SQL, read."""

from __future__ import annotations

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.generations.view import GenerationView, TrackView
from api.store.schema import generations, tracks

# Built once: they are executed with every look at a generation.
_ANY = select(generations).where(generations.c.id == bindparam("generation_id"))
_OWN = _ANY.where(generations.c.account_id == bindparam("account_id"))
_TRACKS = (
    select(*(tracks.c[name] for name in TrackView.__dataclass_fields__))
    .where(tracks.c.generation_id == bindparam("generation_id"))
    .order_by(tracks.c.position)
)


async def read(conn: AsyncConnection, generation_id: str, account_id: str | None = None) -> GenerationView | None:
    """One generation with its tracks; with an account, only if it is that account's."""
    named = {"generation_id": generation_id, "account_id": account_id}
    row = (await conn.execute(_ANY if account_id is None else _OWN, named)).mappings().first()
    if row is None:
        return None
    found = await conn.execute(_TRACKS, named)
    return GenerationView.of(row, [TrackView.of(each) for each in found.mappings()])
