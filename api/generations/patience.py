"""Going on while the database is away: whoever asks comes again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import SQLAlchemyError
from structlog.typing import FilteringBoundLogger

from api.store.errors import StoreError

_DATABASE_ERRORS = (StoreError, SQLAlchemyError, TimeoutError)


class Patience:
    """
    Args:
        timeout_s: longer than this nobody waits for the database's answer. Whether what was asked has happened is then
            unknown: what is done under it must bear to be done again.
    """

    def __init__(self, timeout_s: float, log: FilteringBoundLogger) -> None:
        self._timeout_s = timeout_s
        self._log = log

    @asynccontextmanager
    async def waiting(self, event: str) -> AsyncIterator[None]:
        """A database that is away, or that does not answer, is no reason to end: it is logged as ``event``."""
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except _DATABASE_ERRORS as error:
            self._log.warning(event, error=str(error), kind=type(error).__name__)


async def until(event: asyncio.Event, timeout_s: float) -> None:
    """Until it is set, or the time is up."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
