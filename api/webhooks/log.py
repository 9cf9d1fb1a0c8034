"""What was sent where, and what came of it: the delivery log, replays and tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api import cursor as cursors
from api.clock import Clock
from api.errors import ApiError, ErrorCode
from api.ids import new_id
from api.store.database import Database
from api.store.schema import webhook_attempts as attempts
from api.store.schema import webhook_deliveries as table
from api.webhooks.courier import Courier
from api.webhooks.endpoints import at_rest, find, is_id
from api.webhooks.events import TEST_EVENT
from api.webhooks.expand import body_of, new_delivery
from api.webhooks.leases import Lease

_SHOWN = (
    "id", "event_id", "event_type", "url", "state", "attempts", "next_attempt_at", "created_at", "finished_at",
)  # fmt: skip
_ATTEMPT = ("number", "at", "duration_ms", "status", "error", "response_excerpt")


@dataclass(frozen=True, slots=True)
class Filters:
    """Which deliveries to list; None: all."""

    webhook_id: str | None = None
    event_id: str | None = None
    event_type: str | None = None
    state: str | None = None


class DeliveryLog:
    """Reads the log and sends again. What belongs to another account is not found.

    Args:
        courier: sends tests, which do not wait for a worker.
        lease_s: seconds a test may take at most.
    """

    def __init__(self, db: Database, courier: Courier, clock: Clock, lease_s: float) -> None:
        self._db = db
        self._courier = courier
        self._clock = clock
        self._lease_s = lease_s

    async def page(
        self, account_id: str, filters: Filters, limit: int, cursor: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of deliveries, the newest first, and the cursor of the next one.

        Raises:
            ApiError: invalid_parameter: the cursor is none of ours.
        """
        newest = (table.c.created_at, table.c.id)
        wanted = select(table).where(table.c.account_id == account_id).order_by(*(key.desc() for key in newest))
        for column, value in (
            (table.c.endpoint_id, filters.webhook_id),
            (table.c.event_id, filters.event_id),
            (table.c.event_type, filters.event_type),
            (table.c.state, filters.state),
        ):
            if value is not None:
                wanted = wanted.where(column == value)
        if cursor is not None:
            wanted = wanted.where(tuple_(*newest) < tuple_(*cursors.read(cursor)))
        async with self._db.read() as conn:
            rows = (await conn.execute(wanted.limit(limit + 1))).all()
        page = rows[:limit]
        following = cursors.write(page[-1].created_at, page[-1].id) if len(rows) > limit else None
        return [_view(row) for row in page], following

    async def get(self, account_id: str, delivery_id: str) -> dict[str, Any]:
        """A delivery with its body and its attempts.

        Raises:
            ApiError: webhook_not_found.
        """
        async with self._db.read() as conn:
            row = await _find(conn, account_id, delivery_id)
            return {**_view(row), "body": json.loads(row.body), "log": await _attempts(conn, row.id)}

    async def attempts(self, account_id: str, delivery_id: str) -> list[dict[str, Any]]:
        """
        Raises:
            ApiError: webhook_not_found.
        """
        async with self._db.read() as conn:
            return await _attempts(conn, (await _find(conn, account_id, delivery_id)).id)

    async def replay(self, account_id: str, delivery_id: str) -> dict[str, Any]:
        """Send it again, now, with the id and the body that it had and all its attempts before it.

        One that is being sent at this moment is left alone.

        Raises:
            ApiError: webhook_not_found; webhook_conflict: its endpoint is switched off.
        """
        now = self._clock()
        async with self._db.begin() as conn:
            row = await _find(conn, account_id, delivery_id)
            if row.endpoint_id is not None:
                endpoint = await find(conn, account_id, row.endpoint_id, lock=True)
                if not endpoint.enabled:
                    message = "the webhook is switched off: enable it, then replay"
                    raise ApiError(ErrorCode.WEBHOOK_CONFLICT, message)
            anew = update(table).where(table.c.id == row.id, at_rest(now))
            await conn.execute(anew.values(state="pending", attempts=0, next_attempt_at=now, finished_at=None))
            return _view(await _find(conn, account_id, delivery_id))

    async def test(self, account_id: str, endpoint_id: str) -> dict[str, Any]:
        """Send a ``webhook.test`` event now, once, and return its delivery with the attempt.

        Raises:
            ApiError: webhook_not_found; webhook_conflict: a test of this endpoint is under way.
        """
        now = self._clock()
        owner = new_id("lse")
        async with self._db.begin() as conn:
            endpoint = await find(conn, account_id, endpoint_id, lock=True)
            await _refuse_a_second_test(conn, endpoint_id, now)
            data = {"webhook_id": endpoint_id, "message": "This is a test. Nothing was generated."}
            values = {
                **new_delivery(new_id("evt"), account_id, endpoint_id, endpoint.url, TEST_EVENT, now),
                "body": body_of(TEST_EVENT, now, data),
                "next_attempt_at": now,
                "lease_owner": owner,
                "lease_expires_at": now + timedelta(seconds=self._lease_s),
            }
            await conn.execute(insert(table).values(values))
        names = ("id", "account_id", "endpoint_id", "event_id", "event_type", "url", "body", "attempts")
        await self._courier.deliver(Lease(owner=owner, **{name: values[name] for name in names}))
        return await self.get(account_id, values["id"])


async def _refuse_a_second_test(conn: AsyncConnection, endpoint_id: str, now: datetime) -> None:
    """A test occupies a request for as long as its receiver likes; one at a time does for finding out."""
    under_way = select(table.c.id).where(
        table.c.endpoint_id == endpoint_id,
        table.c.event_type == TEST_EVENT,
        table.c.state == "pending",
        table.c.lease_expires_at > now,
    )
    if (await conn.execute(under_way.limit(1))).first() is not None:
        message = "a test of this webhook is under way: wait for its outcome"
        raise ApiError(ErrorCode.WEBHOOK_CONFLICT, message)


async def _find(conn: AsyncConnection, account_id: str, delivery_id: str) -> Row[Any]:
    wanted = select(table).where(table.c.id == delivery_id, table.c.account_id == account_id)
    row = (await conn.execute(wanted)).one_or_none() if is_id(delivery_id) else None
    if row is None:
        raise ApiError(ErrorCode.WEBHOOK_NOT_FOUND)
    return row


async def _attempts(conn: AsyncConnection, delivery_id: str) -> list[dict[str, Any]]:
    wanted = select(*(attempts.c[name] for name in _ATTEMPT)).where(attempts.c.delivery_id == delivery_id)
    return [dict(row) for row in (await conn.execute(wanted.order_by(attempts.c.number))).mappings()]


def _view(row: Row[Any]) -> dict[str, Any]:
    return {**{name: row._mapping[name] for name in _SHOWN}, "webhook_id": row.endpoint_id}
