"""What an ingress or a worker does for as long as it runs so that its counts are seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from structlog.typing import FilteringBoundLogger

from api.foundation import Foundation
from api.tasks import stop
from api.telemetry.budget import BudgetWriter
from api.telemetry.discovery import exposed
from api.telemetry.recorder import Telemetry


@asynccontextmanager
async def reporting(
    telemetry: Telemetry, replica: str, base: Foundation, log: FilteringBoundLogger
) -> AsyncIterator[None]:
    """Serve the registry, list it, and keep the error budget's books; at the end what is left is written down.

    Args:
        replica: names the process; no other has the same.
    """
    writer = BudgetWriter(base.db, telemetry.tally, replica, base.clock, log)
    async with exposed(telemetry.registry, telemetry.role, replica, base.settings, base.cache):
        writing = asyncio.create_task(writer.run(), name="slo events")
        try:
            yield
        finally:
            await stop(writing)
            await writer.write()
