"""What tests of webhooks do again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from api.webhooks.deliverer import Deliverer
from api.webhooks.log import Filters
from api.webhooks.service import WebhookService
from tests.api.webhooks.receiver import TIMEOUT_S, Received


async def register(service: WebhookService, account: str, url: str, *events: str) -> dict[str, Any]:
    """A new endpoint for these events, or for all."""
    created, _ = await service.endpoints.create(account, url, list(events) or ["*"], "")
    return created


async def listed(service: WebhookService, account: str, **filters: Any) -> list[dict[str, Any]]:
    """The account's deliveries, the newest first."""
    page, _ = await service.log.page(account, Filters(**filters), 100, None)
    return page


async def states(service: WebhookService, account: str) -> list[str]:
    return [delivery["state"] for delivery in await listed(service, account)]


class Gate:
    """A receiver that answers when the gate is opened."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def __call__(self, _request: Received, writer: asyncio.StreamWriter) -> None:
        await self.opened.wait()
        writer.write(b"HTTP/1.1 204 X\r\n\r\n")


@asynccontextmanager
async def at_work(deliverer: Deliverer) -> AsyncIterator[asyncio.Task[None]]:
    """A worker; at the end it is stopped as one that is shut down in order."""
    running = asyncio.create_task(deliverer.run())
    try:
        yield running
    finally:
        await deliverer.stop()
        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.wait([running])


async def only(service: WebhookService, account: str) -> dict[str, Any]:
    (delivery,) = await listed(service, account)
    return delivery
