"""The error budget: good and bad events of all processes, kept in SQL for as long as the budget's window.

Valkey may be flushed and processes come and go; what was counted here stays. A process that is killed loses what it has
not written yet: at most ``WRITE_EVERY_S`` seconds of events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import case, delete, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.typing import FilteringBoundLogger

from api.clock import Clock
from api.limits.sql import insert
from api.store.database import Database
from api.store.errors import StoreError
from api.store.schema import slo_events
from api.telemetry.tally import Count, Key, Tally, slot_of

WINDOWS: Final[Mapping[str, timedelta]] = {
    "5m": timedelta(minutes=5),
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "1d": timedelta(days=1),
    "3d": timedelta(days=3),
    "30d": timedelta(days=30),
}
KEPT: Final = timedelta(days=31)
WRITE_EVERY_S: Final = 5.0
_WRITE_FAILURES = (StoreError, SQLAlchemyError, OSError)

Attainment = Mapping[tuple[str, str], Mapping[str, Count]]
"""SLI and tier → window → events."""


@dataclass(frozen=True, slots=True)
class BudgetWriter:
    """Writes one process's tally.

    Args:
        replica: names the process; no other has the same.
    """

    db: Database
    tally: Tally
    replica: str
    clock: Clock
    log: FilteringBoundLogger

    async def run(self, every_s: float = WRITE_EVERY_S) -> None:
        """Until cancelled. Call ``write`` once more at the end."""
        while True:
            await asyncio.sleep(every_s)
            await self.write()

    async def write(self) -> bool:
        """What is new. False: the database is away, and the next call tries again."""
        taken, written = self.tally.take(), False
        if not taken:
            return True
        try:
            async with self.db.begin() as conn:
                await _write(conn, taken, self.replica)
            written = True
            self.tally.forget(self.clock())
        except _WRITE_FAILURES as error:
            self.log.warning("slo_events_wait_for_the_database", error=type(error).__name__)
        finally:
            if not written:  # also when the task was cancelled on the way
                self.tally.give_back(taken)
        return written


async def _write(conn: AsyncConnection, taken: Mapping[Key, Count], replica: str) -> None:
    rows = [
        {"slot": slot, "replica": replica, "sli": sli, "tier": tier, "good": count.good, "bad": count.bad}
        for (slot, sli, tier), count in taken.items()
    ]
    table = slo_events.c
    upsert = insert(conn, slo_events)
    fresh: dict[str, Any] = {"good": upsert.excluded.good, "bad": upsert.excluded.bad}
    keys = [table.slot, table.replica, table.sli, table.tier]
    await conn.execute(upsert.on_conflict_do_update(index_elements=keys, set_=fresh), rows)


async def attainment(conn: AsyncConnection, now: datetime) -> Attainment:
    """Events of all processes by SLI, tier and window. A window begins with the slot that it begins in."""
    table = slo_events.c
    columns: list[Any] = [table.sli, table.tier]
    for name, length in WINDOWS.items():
        inside = table.slot >= slot_of(now - length)
        columns += [func.sum(case((inside, table.good), else_=0)).label(f"good_{name}")]
        columns += [func.sum(case((inside, table.bad), else_=0)).label(f"bad_{name}")]
    since = slot_of(now - max(WINDOWS.values()))
    rows = await conn.execute(select(*columns).where(table.slot >= since).group_by(table.sli, table.tier))
    return {
        (row["sli"], row["tier"]): {name: Count(int(row[f"good_{name}"]), int(row[f"bad_{name}"])) for name in WINDOWS}
        for row in rows.mappings()
    }


async def purge(conn: AsyncConnection, now: datetime) -> int:
    """Remove what no window reaches; says how many rows."""
    removed = await conn.execute(delete(slo_events).where(slo_events.c.slot < slot_of(now - KEPT)))
    return removed.rowcount
