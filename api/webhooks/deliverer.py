"""The part of a worker that sends webhooks: leases what is due and sends it, many at a time. Any number may run."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError
from structlog.typing import FilteringBoundLogger

from api.clock import Clock
from api.settings import Settings
from api.store.database import Database
from api.store.errors import StoreError
from api.store.schema import webhook_deliveries as table
from api.webhooks.courier import Courier
from api.webhooks.leases import LEASE_MARGIN_S, Lease, Share, lease_due

POLL_S: Final = 1.0
# Looking at a backlog of 10,000 takes 60 ms: a worker spends no more than a third of its time on that.
_REST_SHARE: Final = 2.0
_REST_FROM_S: Final = 0.02
_PRUNE_EVERY: Final = timedelta(hours=1)
_PRUNE_BATCH: Final = 1000


class Deliverer:
    """Sends pending deliveries for as long as it runs.

    Args:
        courier: sends one.
        settings: how many at once, how long a receiver has, how long the log is kept.
    """

    def __init__(
        self, db: Database, courier: Courier, settings: Settings, clock: Clock, log: FilteringBoundLogger
    ) -> None:
        self._db = db
        self._courier = courier
        self._clock = clock
        self._log = log
        self._concurrency = settings.webhook_concurrency
        lane = settings.webhook_endpoint_concurrency
        # Half of the places at most for one account: the other half is always there for the others.
        self._share = Share(lane=lane, account=max(1, self._concurrency // 2))
        self._lease_s = settings.webhook_timeout_s + LEASE_MARGIN_S
        self._kept = timedelta(days=settings.webhook_log_days)
        self._tasks: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._stopping = False
        self._prune_at = clock()

    def wake(self) -> None:
        """Something is due: look now."""
        self._woken.set()

    async def run(self) -> None:
        """Until stopped; deliveries in hand are finished before it returns. A database that is away is waited for."""
        try:
            while not self._stopping:
                self._woken.clear()
                began_at = time.monotonic()
                started = await self._tend()
                looked_s = time.monotonic() - began_at
                if not started:
                    await self._pause()
                if looked_s > _REST_FROM_S:
                    await asyncio.sleep(min(_REST_SHARE * looked_s, POLL_S))
            if self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            # Cancelled: what is in hand is left to its leases.
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop(self) -> None:
        """Take nothing more; ``run`` returns when what is in hand is done, at most webhook_timeout_s later."""
        self._stopping = True
        self._woken.set()

    async def deliver_due(self) -> int:
        """Send all that is due at this moment, and return when it is sent; how many that was."""
        sent = 0
        while started := await self._start():
            sent += started
            await asyncio.wait(self._tasks)
        return sent

    async def prune(self) -> int:
        """Remove finished deliveries that are older than the log is kept; how many."""
        old = select(table.c.id).where(table.c.finished_at < self._clock() - self._kept).limit(_PRUNE_BATCH)
        removed = 0
        while True:
            async with self._db.begin() as conn:
                batch = (await conn.execute(delete(table).where(table.c.id.in_(old)))).rowcount
            removed += batch
            if batch < _PRUNE_BATCH:
                return removed

    async def _tend(self) -> int:
        """Start what there is place for, and look after the log; how many were started."""
        try:
            started = await self._start()
            if self._clock() >= self._prune_at:
                await self.prune()
                self._prune_at = self._clock() + _PRUNE_EVERY
        except (StoreError, SQLAlchemyError) as error:
            self._log.warning("webhooks_wait_for_the_database", error=str(error))
            return 0
        return started

    async def _start(self) -> int:
        free = self._concurrency - len(self._tasks)
        leases = await lease_due(self._db, self._share, free, self._clock(), self._lease_s) if free > 0 else []
        for lease in leases:
            task = asyncio.create_task(self._deliver(lease), name=f"webhook {lease.id}")
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        return len(leases)

    async def _deliver(self, lease: Lease) -> None:
        outcome, recorded = await self._courier.deliver(lease)
        # No URL: it may hold the receiver's secrets.
        self._log.info(
            "webhook_attempt",
            delivery=lease.id,
            event_id=lease.event_id,
            endpoint=lease.endpoint_id,
            attempt=lease.attempts + 1,
            status=outcome.status,
            delivered=outcome.delivered,
            duration_ms=round(outcome.duration_ms, 1),
            recorded=recorded,
        )

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A place is free. What a delivery raised is its own affair: its lease runs out and it is sent again."""
        self._tasks.discard(task)
        self._woken.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("webhook_attempt_broke", task=task.get_name(), error=repr(error), exc_info=error)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._woken.wait()
        except TimeoutError:
            return
