"""One lease in a worker's hands: the work, the reason to stop it, and what is written down at its end."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from api import tasks
from api.generations import retries, states
from api.generations.execution import Execution
from api.generations.states import Change, Lease
from api.generations.view import GenerationView
from models.errors import ReplicaLostError

Reason = Literal["cancel", "lost", "shutdown"]


class Run:
    """Begins at once.

    Args:
        lease_until: by the event loop's clock.

    Attributes:
        work: makes the tracks.
        reason: why it was stopped before its end, if it was. The first reason counts.
        lease_until: nothing is done after this unless the lease is extended.
    """

    def __init__(self, lease: Lease, execution: Execution, lease_until: float) -> None:
        self.lease = lease
        self.lease_until = lease_until
        self.reason: Reason | None = None
        self._execution = execution
        self._stopping: asyncio.Task[None] | None = None
        self.work = asyncio.create_task(execution.make(), name=f"generation {lease.generation_id}")

    @property
    def num_tracks(self) -> int:
        return self.lease.view.num_tracks

    @property
    def view(self) -> GenerationView:
        """As it was when it was leased."""
        return self.lease.view

    @property
    def made_s(self) -> float:
        """Seconds of audio made so far, over all tracks."""
        return self._execution.made_s

    @property
    def valid(self) -> bool:
        """Nothing is wrong with what was made."""
        return self._execution.valid

    def stop(self, reason: Reason) -> None:
        """End the work; its generators are closed when ``until_done`` returns."""
        if self.reason is None and not self.work.done():
            self.reason = reason
            self._stopping = asyncio.create_task(tasks.stop(self.work))

    async def until_done(self) -> None:
        """Until the work has ended in whatever way, or the lease has run out, which ends it."""
        loop = asyncio.get_running_loop()
        while not self.work.done():
            left_s = self.lease_until - loop.time()
            if left_s <= 0:
                self.stop("lost")
            await asyncio.wait({self.work}, timeout=left_s if left_s > 0 else None)
        await self._stopped()

    async def abandon(self) -> None:
        """The worker itself is going: end the work, write nothing."""
        await tasks.stop(self.work)
        await self._stopped()

    async def _stopped(self) -> None:
        if self._stopping is not None:
            await self._stopping

    @property
    def error(self) -> BaseException | None:
        """What the work raised by itself."""
        if self.work.cancelled():
            return None if self.reason else ReplicaLostError("the work was cancelled by nobody")
        return self.work.exception()

    async def settle(self, conn: AsyncConnection, now: datetime) -> Change | None:
        """Write down how it ended. None: it was not ours any more, or it stands there already.

        May be called again where nobody knows whether the last call was committed.
        """
        error = self.error
        if error is None and self.reason is None:
            return await self._succeed(conn, now)
        await states.discard(conn, self._execution.stored, now)
        unmade = self._execution.unmade
        if self.reason == "cancel":
            return await states.cancelled(conn, self.lease, now, unmade=unmade)
        if self.reason == "shutdown":
            return await states.requeue(conn, self.lease, None, now, counts=False, unmade=unmade)
        if error is None:  # the lease was lost
            return None
        verdict = retries.judge(error, self.lease.attempt, self.lease.previous_error)
        if verdict.retry:
            return await states.requeue(
                conn, self.lease, verdict.error, now, wait_s=verdict.wait_s, counts=verdict.counts, unmade=unmade
            )
        return await states.fail(conn, self.lease, verdict.error, now, unmade=unmade)

    async def _succeed(self, conn: AsyncConnection, now: datetime) -> Change | None:
        made = self._execution
        return await states.succeed(
            conn,
            self.lease,
            made.stored,
            now,
            first_audio_at=made.first_audio_at,
            real_time_factor=made.real_time_factor,
        )
