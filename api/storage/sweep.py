"""Objects that no row knows: left by a process that died between storing an object and writing its row down."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select, union_all

from api.storage.audio import audio_key
from api.storage.objects import PROBES, ObjectStore
from api.store.schema import tracks, uploads

if TYPE_CHECKING:
    from api.store.database import Database

MIN_AGE = timedelta(days=1)
_BATCH = 200
_KINDS = frozenset({"tracks", "uploads"})  # the second part of a key; nothing else is touched


async def sweep_orphans(db: Database, objects: ObjectStore, now: datetime, min_age: timedelta = MIN_AGE) -> int:
    """Remove audio that belongs to no track and no upload, and what checks left; returns how many objects there were.

    Args:
        min_age: younger objects are left alone, since the transaction of their row may not have ended yet.

    Raises:
        StorageUnavailableError: try again; what was removed stays removed.
    """
    removed, batch = 0, list[str]()
    async for entry in objects.listing(""):
        parts = entry.key.split("/")
        is_audio = len(parts) > 2 and parts[1] in _KINDS
        if (is_audio or parts[0] == PROBES) and entry.modified_at <= now - min_age:
            batch.append(entry.key)
        if len(batch) == _BATCH:
            removed += await _remove_unknown(db, objects, batch)
            batch = []
    return removed + await _remove_unknown(db, objects, batch)


async def _remove_unknown(db: Database, objects: ObjectStore, keys: list[str]) -> int:
    audio = {key: audio_key(key) for key in keys}
    wanted = set(audio.values())
    known = union_all(
        *(select(table.c.object_key).where(table.c.object_key.in_(wanted)) for table in (tracks, uploads))
    )
    async with db.read() as conn:
        found = set((await conn.execute(known)).scalars())
    unknown = [key for key in keys if audio[key] not in found]
    for key in unknown:
        await objects.delete(key)
    return len(unknown)
