"""From an event to its deliveries: one for each endpoint that asks for it, one for the generation's own webhook_url."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.clock import Clock
from api.ids import new_id
from api.limits.sql import insert
from api.store.database import Database
from api.store.schema import generations
from api.store.schema import webhook_deliveries as deliveries
from api.store.schema import webhook_endpoints as endpoints
from api.webhooks.events import asks_for
from api.webhooks.keyring import Keyring

Render = Callable[[str], Awaitable[Mapping[str, Any] | None]]
"""A generation's id → its public JSON as GET shows it; None if it is gone."""


def body_of(event_type: str, at: datetime, data: Mapping[str, Any]) -> str:
    """The bytes that are signed, as text; made once, so that every attempt sends the same. Pure ASCII."""
    event = {"type": event_type, "timestamp": at.astimezone(UTC).isoformat(), "data": dict(data)}
    return json.dumps(event, separators=(",", ":"), allow_nan=False)


class Expander:
    """The outbox's handler of ``webhook.event``. Done twice, it is done once: an event has one delivery per URL.

    Args:
        render: what the body tells of the generation.
        ring: called when deliveries were added.
    """

    def __init__(
        self, db: Database, keyring: Keyring, render: Render, clock: Clock, ring: Callable[[], None] | None = None
    ) -> None:
        self._db = db
        self._keyring = keyring
        self._render = render
        self._clock = clock
        self._ring = ring

    async def __call__(self, payload: Mapping[str, Any]) -> None:
        """
        Args:
            payload: {"event_id", "type", "account_id", "generation_id"}.
        """
        data = await self._render(payload["generation_id"])
        if data is None:
            return  # erased in the meantime: there is nobody to tell
        async with self._db.begin() as conn:
            await self._expand(conn, payload, data)
        if self._ring is not None:
            self._ring()

    async def _expand(self, conn: AsyncConnection, payload: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        account_id = payload["account_id"]
        generation = await _generation(conn, account_id, payload["generation_id"])
        if generation is None:
            return
        places: list[tuple[str | None, str]] = [
            (row.id, row.url)
            for row in await conn.execute(
                select(endpoints).where(endpoints.c.account_id == account_id, endpoints.c.enabled).order_by("id")
            )
            if asks_for(row.events, payload["type"])
        ]
        if generation.webhook_url is not None:
            # It may be an endpoint's too: the endpoint's delivery came first and stays the only one.
            places.append((None, generation.webhook_url))
            await self._keyring.account_secret(conn, account_id)
        now = self._clock()
        body = body_of(payload["type"], generation.finished_at or now, data)
        for endpoint_id, url in places:
            values = {
                **new_delivery(payload["event_id"], account_id, endpoint_id, url, payload["type"], now),
                "body": body,
                "next_attempt_at": now,
            }
            await conn.execute(insert(conn, deliveries).values(values).on_conflict_do_nothing())


def new_delivery(
    event_id: str, account_id: str, endpoint_id: str | None, url: str, event_type: str, now: datetime
) -> dict[str, Any]:
    return {
        "id": new_id("whd"),
        "event_id": event_id,
        "account_id": account_id,
        "endpoint_id": endpoint_id,
        "url": url,
        "event_type": event_type,
        "state": "pending",
        "attempts": 0,
        "created_at": now,
    }


async def _generation(conn: AsyncConnection, account_id: str, generation_id: str) -> Row[Any, Any] | None:
    wanted = select(generations.c.webhook_url, generations.c.finished_at)
    mine = wanted.where(generations.c.id == generation_id, generations.c.account_id == account_id)
    return (await conn.execute(mine)).one_or_none()
