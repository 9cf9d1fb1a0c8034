"""A worker's signs of life: its leases extended, what it can do, and what it hears of its generations in return."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete

from api.clock import Clock
from api.generations import leases
from api.generations.leases import Held
from api.generations.patience import Patience, until
from api.generations.run import Run
from api.generations.throughput import Throughput
from api.generations.timing import Timing
from api.generations.view import State
from api.store.database import Database
from api.store.schema import workers


class Heartbeat:
    """One transaction at each beat, however many generations there are.

    Args:
        owner: the worker's id.
        runs: those in its hands, at any moment.

    Attributes:
        wanted: set it, and the next beat comes at once.
    """

    def __init__(
        self,
        db: Database,
        owner: str,
        runs: Collection[Run],
        throughput: Throughput,
        clock: Clock,
        timing: Timing,
        patience: Patience,
    ) -> None:
        self._db, self._owner, self._runs = db, owner, runs
        self._throughput, self._clock, self._timing, self._patience = throughput, clock, timing, patience
        self._started_at = clock()
        self._reported_at = datetime.min.replace(tzinfo=UTC)
        self.wanted = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.wanted.clear()
            async with self._patience.waiting("heartbeat_waits_for_the_database"):
                await self._beat()
            await until(self.wanted, self._timing.heartbeat_s)

    async def sign_off(self) -> None:
        """The worker is gone, and nobody should count on it."""
        async with self._patience.waiting("sign_off_failed"), self._db.begin() as conn:
            await conn.execute(delete(workers).where(workers.c.id == self._owner))

    async def _beat(self) -> None:
        """Extend every lease, see which generations are to be cancelled, say how fast it goes."""
        asked_at = asyncio.get_running_loop().time()
        asked = {run.lease.generation_id: run for run in self._runs}
        now = self._clock()
        if not asked and now - self._reported_at < timedelta(seconds=self._timing.report_s):
            return
        async with self._db.begin() as conn:
            held = await leases.extend(conn, self._owner, asked, now, lease_s=self._timing.lease_s) if asked else []
            await leases.report(conn, self._owner, self._started_at, now, self._throughput.as_capacity())
        self._reported_at = now
        kept = {each.generation_id: each for each in held}
        for generation_id, run in asked.items():
            self._tell(run, kept.get(generation_id), asked_at + self._timing.lease_s)

    def _tell(self, run: Run, seen: Held | None, lease_until: float) -> None:
        if seen is None or not run.lease.holds(seen.state, seen.version):
            run.stop("lost")
            return
        run.lease_until = lease_until
        if seen.state == State.CANCELLING:
            run.stop("cancel")
