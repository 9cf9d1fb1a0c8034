"""What a worker says of generations, once it is committed: to listeners, to whoever counts, and in the log."""

from __future__ import annotations

from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from api.cache.bus import Bus
from api.generations import doorbells
from api.generations.run import Run
from api.generations.states import Change
from api.generations.view import State
from api.streams.writer import FeedWriter
from api.telemetry.work import WorkCounts
from models.errors import TuttiError


class Telling:
    """
    Args:
        on_end: called after generations have ended.
        counts: told of every change.
    """

    def __init__(
        self,
        bus: Bus,
        feed: FeedWriter,
        log: FilteringBoundLogger,
        on_end: Callable[[], None],
        counts: WorkCounts | None,
    ) -> None:
        self._bus, self._feed, self._log = bus, feed, log
        self._on_end, self._counts = on_end, counts

    async def settled(self, run: Run, change: Change | None) -> None:
        """What an attempt came to; None: somebody else has written that down."""
        if self._counts is not None:
            self._counts.settled(run, change)
        if change is not None:
            await self._tell(change)

    async def changed(self, change: Change) -> None:
        """What came about without an attempt of this worker."""
        if self._counts is not None:
            self._counts.changed(change)
        await self._tell(change)

    def log_end(self, run: Run) -> None:
        """Why an attempt did not come to its end, if it did not."""
        error, view = run.error, run.lease.view
        log = self._log.bind(generation_id=view.id, request_id=view.request_id, attempt=run.lease.attempt)
        if run.reason is not None:
            log.info("attempt_stopped", reason=run.reason)
        elif isinstance(error, TuttiError):
            log.warning("attempt_failed", error=str(error), kind=type(error).__name__)
        elif error is not None:
            log.error("attempt_failed", exc_info=error)

    async def _tell(self, change: Change) -> None:
        """To whoever listens; all of them would find out by themselves."""
        await self._feed.state_changed(change.generation_id, change.version)
        if change.state.is_terminal:
            await self._feed.finish(change.generation_id)
            self._on_end()
        elif change.state == State.QUEUED:
            await self._bus.publish(doorbells.JOBS, b"")
        self._log.info("generation_state", generation_id=change.generation_id, state=change.state.value)
