"""What nobody else would end: queued generations that waited too long, and those whose worker was lost."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

from sqlalchemy import delete
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.typing import FilteringBoundLogger

from api.clock import Clock
from api.generations import leases, retries, states
from api.generations.leases import Overdue
from api.generations.states import Change
from api.generations.view import State
from api.store.database import Database
from api.store.errors import StoreError
from api.store.schema import workers
from autoscaling.fairness import TierRule

_FORGOTTEN_AFTER = timedelta(hours=1)
_FORGET_EVERY = 600  # rounds


class Housekeeping:
    """Done by every worker: who comes second finds nothing left to do.

    Args:
        rules: of the tiers, for the fair queue's books.
        tell: is told of every change after its commit.
    """

    def __init__(
        self,
        db: Database,
        rules: Mapping[str, TierRule],
        clock: Clock,
        tell: Callable[[Change], Awaitable[None]],
        log: FilteringBoundLogger,
    ) -> None:
        self._db = db
        self._rules = rules
        self._clock = clock
        self._tell = tell
        self._log = log

    async def run(self, every_s: float) -> None:
        """Until cancelled."""
        for turn in itertools.count():
            try:
                await self.sweep()
                if turn % _FORGET_EVERY == 0:
                    await self.forget_workers()
            except (StoreError, SQLAlchemyError) as error:
                self._log.warning("housekeeping_waits_for_the_database", error=str(error))
            await asyncio.sleep(every_s)

    async def sweep(self) -> int:
        """One round; says how many generations it changed."""
        async with self._db.read() as conn:
            found = await leases.overdue(conn, self._clock())
        changed = 0
        for each in found:
            async with self._db.begin() as conn:
                change = await self._end(conn, each)
            if change is not None:
                changed += 1
                await self._tell(change)
        return changed

    async def _end(self, conn: AsyncConnection, each: Overdue) -> Change | None:
        now = self._clock()
        if each.state == State.QUEUED:
            return await states.expire(conn, each.generation_id, each.account_id, now)
        self._log.warning("lease_lost", generation_id=each.generation_id, attempt=each.attempt)
        rule = self._rules.get(each.tier)
        return await states.reap(
            conn,
            each.generation_id,
            each.account_id,
            retries.LOST,
            now,
            refund_s=rule.charge_s(each.charge_audio_s) if rule else 0.0,
            retry=retries.may_retry(each.attempt),
            wait_s=retries.backoff_s(each.attempt),
        )

    async def forget_workers(self) -> None:
        """Rows of workers that died long ago."""
        async with self._db.begin() as conn:
            await conn.execute(delete(workers).where(workers.c.seen_at < self._clock() - _FORGOTTEN_AFTER))
