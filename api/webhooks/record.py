"""What came of an attempt, written down in one transaction: the attempt, the delivery, the endpoint's health."""

from __future__ import annotations

import random
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.store.schema import webhook_attempts as attempts
from api.store.schema import webhook_deliveries as deliveries
from api.store.schema import webhook_endpoints as endpoints
from api.webhooks.endpoints import end_pending
from api.webhooks.events import TEST_EVENT
from api.webhooks.leases import Lease
from api.webhooks.schedule import FAILING_LIMIT, next_attempt
from api.webhooks.sender import Outcome


async def record(
    conn: AsyncConnection, lease: Lease, outcome: Outcome, at: datetime, now: datetime, rng: random.Random
) -> bool:
    """Write an outcome down.

    Args:
        conn: a write transaction.
        at: when the attempt began.

    Returns:
        False if the lease is lost: the delivery was leased anew, deleted or ended, and nothing is written.
    """
    # The endpoint before its deliveries, in the order in which everybody locks them.
    endpoint = await _lock_endpoint(conn, lease.endpoint_id)
    again_at = _next_attempt_at(lease, endpoint, outcome, now, rng)
    values: dict[str, Any] = {
        "attempts": lease.attempts + 1,
        "lease_owner": None,
        "lease_expires_at": None,
        "next_attempt_at": again_at,
        "state": "delivered" if outcome.delivered else "failed" if again_at is None else "pending",
        "finished_at": now if again_at is None else None,
    }
    held = update(deliveries).where(deliveries.c.id == lease.id, deliveries.c.lease_owner == lease.owner)
    if (await conn.execute(held.values(**values))).rowcount != 1:
        return False
    await _log(conn, lease, outcome, at)
    if endpoint is not None and lease.event_type != TEST_EVENT:
        await _judge(conn, endpoint, outcome, now)
    return True


async def _lock_endpoint(conn: AsyncConnection, endpoint_id: str | None) -> Row[Any] | None:
    if endpoint_id is None:
        return None
    wanted = select(endpoints).where(endpoints.c.id == endpoint_id).with_for_update()
    return (await conn.execute(wanted)).one_or_none()


def _next_attempt_at(
    lease: Lease, endpoint: Row[Any] | None, outcome: Outcome, now: datetime, rng: random.Random
) -> datetime | None:
    switched_off = endpoint is not None and not endpoint.enabled
    if outcome.delivered or outcome.gone or switched_off or lease.event_type == TEST_EVENT:
        return None
    return next_attempt(lease.attempts + 1, now, outcome.retry_after_s, rng)


async def _log(conn: AsyncConnection, lease: Lease, outcome: Outcome, at: datetime) -> None:
    # Counted on over replays, which begin a delivery's own count anew.
    last = select(func.coalesce(func.max(attempts.c.number), 0)).where(attempts.c.delivery_id == lease.id)
    number = (await conn.execute(last)).scalar_one() + 1
    await conn.execute(
        insert(attempts).values(
            delivery_id=lease.id,
            number=number,
            at=at,
            duration_ms=outcome.duration_ms,
            status=outcome.status,
            error=outcome.error,
            response_excerpt=outcome.excerpt,
        )
    )


async def _judge(conn: AsyncConnection, endpoint: Row[Any], outcome: Outcome, now: datetime) -> None:
    """Switch off an endpoint that is gone, or that has done nothing but fail for five days."""
    if outcome.delivered:
        if endpoint.failing_since is not None:
            await _change(conn, endpoint, failing_since=None)
        return
    since = endpoint.failing_since or now
    reason = _reason(outcome, since, now)
    if reason is None or not endpoint.enabled:
        await _change(conn, endpoint, failing_since=since)
        return
    await _change(conn, endpoint, failing_since=since, enabled=False, disabled_reason=reason)
    await end_pending(conn, deliveries.c.endpoint_id == endpoint.id, now)


def _reason(outcome: Outcome, since: datetime, now: datetime) -> str | None:
    if outcome.gone:
        return "the receiver answered 410 Gone: it wants no more deliveries"
    if now - since >= FAILING_LIMIT:
        return f"every delivery since {since.isoformat(timespec='seconds')} failed; the last one: {outcome.error}"[:200]
    return None


async def _change(conn: AsyncConnection, endpoint: Row[Any], **values: Any) -> None:
    await conn.execute(update(endpoints).where(endpoints.c.id == endpoint.id).values(**values))
