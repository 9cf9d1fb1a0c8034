"""Audio that somebody deletes while a generation that was accepted with it has not ended: the row goes, the sound stays
until nothing can need it any more, since what was accepted is made."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Text, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.generations import outbox
from api.generations.view import TERMINAL
from api.store.schema import generations

_ATTEMPTS = timedelta(hours=1)  # each attempt reads it anew; as long as uploads are kept for them


async def delete_object(conn: AsyncConnection, account_id: str, audio_id: str, object_key: str, now: datetime) -> None:
    """Leave the deletion of a track's or upload's sound to the outbox: at once, or as soon as nothing refers to it.

    Args:
        audio_id: of a row that is gone, so nothing new can refer to it.
    """
    needed_until = await _needed_until(conn, account_id, audio_id)
    due = now if needed_until is None else max(now, needed_until + _ATTEMPTS)
    await outbox.put(conn, outbox.OBJECT_DELETE, {"object_key": object_key}, now, due)


async def _needed_until(conn: AsyncConnection, account_id: str, audio_id: str) -> datetime | None:
    """When the last of what was accepted with it expires, if it still waits then; None: nothing was."""
    waiting = select(func.max(generations.c.expires_at)).where(
        generations.c.account_id == account_id,
        generations.c.state.not_in(TERMINAL),
        cast(generations.c.conditioning, Text).contains(audio_id),
    )
    found: datetime | None = (await conn.execute(waiting)).scalar_one()
    return found
