"""How many seconds of audio are owed, by tier: read from the queue's own table, since engines know no tiers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from sqlalchemy import case, func, select
from sqlalchemy.exc import SQLAlchemyError

from api.store.database import Database
from api.store.errors import StoreError
from api.store.schema import generations
from api.telemetry.catalogue import TIERS
from api.telemetry.registry import Registry, tier_label

GAUGE: Final = "tutti_engine_backlog_audio_seconds"
EVERY_S: Final = 2.0
_table = generations.c
_OWED: Final = (
    select(
        _table.model_id,
        _table.tier,
        case((_table.state == "queued", "queued"), else_="running").label("state"),
        func.sum(_table.duration_s * _table.num_tracks).label("audio_s"),
    )
    .where(_table.state.in_(("queued", "running", "cancelling")))
    .group_by(_table.model_id, _table.tier, "state")
)


class BacklogGauge:
    """
    Args:
        models: those that are told of also when nothing is owed.
    """

    def __init__(self, registry: Registry, db: Database, models: list[str]) -> None:
        self._gauge = registry.gauge(GAUGE)
        self._db = db
        self._series = {(model, tier, state) for model in models for tier in TIERS for state in ("queued", "running")}

    async def run(self, every_s: float = EVERY_S) -> None:
        """Until cancelled; while the database is away the last values stay."""
        while True:
            with suppress(StoreError, SQLAlchemyError, OSError):  # the workers' own lines tell of it
                await self.look()
            await asyncio.sleep(every_s)

    async def look(self) -> None:
        async with self._db.read() as conn:
            rows = (await conn.execute(_OWED)).all()
        owed = dict.fromkeys(self._series, 0.0)
        for row in rows:
            series = (row.model_id, tier_label(row.tier), row.state)
            owed[series] = owed.get(series, 0.0) + float(row.audio_s)
        for series, audio_s in owed.items():
            self._gauge.labels(*series).set(audio_s)
        self._series |= owed.keys()
