"""Every change of a generation's state, one function each, and no other place where one happens.

Each function is part of its caller's write transaction. It locks the account first, so that changes of one account pass
one after the other, then looks at the row, and either makes the whole change (row, version, times, tracks, the queue's
books, quota, webhook) or, if the state does not allow it, none of it and returns None. That is the normal answer to a
worker that lost its lease and to a cancel that came too late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.generations import books
from api.generations.rows import read
from api.generations.transition import (
    Change,
    Lease,
    back_to_queue,
    discard,
    end,
    held,
    locked,
    move,
    move_tracks,
)
from api.generations.view import LEASED, State
from api.limits import quota
from api.store.schema import generations, tracks

__all__ = [
    "LEASE_S", "Change", "Lease", "cancelled", "create", "discard", "expire", "fail", "reap", "request_cancel",
    "requeue", "start", "succeed",
]  # fmt: skip

LEASE_S = 10.0
_INSERT_GENERATION = insert(generations)
_INSERT_TRACKS = insert(tracks)


# ---------------------------------------------------------------------------------------------- queued
async def create(conn: AsyncConnection, row: Mapping[str, Any], track_rows: Sequence[Mapping[str, Any]]) -> None:
    """Nothing → queued. The account's clock is lifted if it comes back from idle.

    Args:
        row, track_rows: columns of ``generations`` and ``tracks``, without the states.
    """
    account_id = row["account_id"]
    await books.lock(conn, account_id)
    await books.lift(conn, account_id, row["created_at"])
    # Constant statements: what is built anew at each call costs more than what the database does with it.
    await conn.execute(_INSERT_GENERATION, {**row, "state": State.QUEUED})
    await conn.execute(_INSERT_TRACKS, [{**each, "state": State.QUEUED} for each in track_rows])


async def expire(conn: AsyncConnection, generation_id: str, account_id: str, now: datetime) -> Change | None:
    """Queued, and past its expiry → expired. The quota is given back."""
    row = await locked(conn, generation_id, account_id)
    if row is None or row["state"] != State.QUEUED or row["expires_at"] > now:
        return None
    await quota.refund(conn, generation_id)
    return await end(conn, row, State.EXPIRED, now)


async def requeue(
    conn: AsyncConnection,
    lease: Lease,
    error: Mapping[str, Any] | None,
    now: datetime,
    *,
    wait_s: float = 0.0,
    counts: bool = True,
    unmade: float = 0.0,
) -> Change | None:
    """Running → queued, for another attempt; cancelling → cancelled.

    Args:
        error: why; None when a worker that stops gives it back.
        wait_s: not leased again before.
        counts: False takes the attempt back: nothing was tried.
        unmade: of one that is being cancelled, see ``cancelled``.
    """
    row = await held(conn, lease)
    if row is None:
        return None
    if row["state"] == State.CANCELLING:
        return await _cancelled(conn, row, now, refund_s=lease.charge_s * unmade)
    return await back_to_queue(conn, row, error, now, wait_s, counts=counts, refund_s=lease.charge_s)


# --------------------------------------------------------------------------------------------- running
async def start(
    conn: AsyncConnection,
    generation_id: str,
    account_id: str,
    owner: str,
    now: datetime,
    *,
    charge_s: float,
    lease_s: float = LEASE_S,
    running_limit: int | None = None,
) -> Lease | None:
    """Queued → running: a worker takes it, and the account is charged on the fair queue's clock.

    Args:
        charge_s: audio-seconds, weighted.
        running_limit: as many of the account's generations may run at once, this one included; None: any number.
    """
    row = await locked(conn, generation_id, account_id)
    if row is None or row["state"] != State.QUEUED or row["available_at"] > now or row["expires_at"] <= now:
        return None
    # Counted under the lock: what the queue saw before it may be another worker's by now.
    if running_limit is not None and await books.running(conn, account_id) >= running_limit:
        return None
    attempt = row["attempt"] + 1
    waited_s = max(0.0, (now - row["created_at"]).total_seconds())
    values = {
        "attempt": attempt,
        "lease_owner": owner,
        "lease_expires_at": now + timedelta(seconds=lease_s),
        "started_at": now,
        "queue_wait_s": waited_s if row["queue_wait_s"] is None else row["queue_wait_s"],
    }
    await move(conn, row, State.RUNNING, **values)
    await books.charge(conn, account_id, charge_s)
    await move_tracks(conn, generation_id, State.RUNNING)
    view = await read(conn, generation_id)
    assert view is not None, "it was there a statement ago, and the account is locked"
    return Lease(view, owner, attempt, row["error"], charge_s)


async def succeed(
    conn: AsyncConnection,
    lease: Lease,
    audio: Mapping[str, Mapping[str, Any]],
    now: datetime,
    *,
    first_audio_at: datetime | None,
    real_time_factor: float,
) -> Change | None:
    """Running → succeeded, with all tracks; cancelling → cancelled, and the audio is thrown away.

    Args:
        audio: track id → columns of ``tracks`` from ``object_key`` on; every track of the generation.
    """
    row = await held(conn, lease)
    if row is None or row["state"] == State.CANCELLING:
        await discard(conn, audio, now)
        return None if row is None else await end(conn, row, State.CANCELLED, now)
    for track_id, columns in audio.items():
        await conn.execute(update(tracks).where(tracks.c.id == track_id).values(**columns))
    return await end(
        conn,
        row,
        State.SUCCEEDED,
        now,
        first_audio_at=first_audio_at,
        real_time_factor=real_time_factor,
        error=None,
    )


async def fail(
    conn: AsyncConnection, lease: Lease, error: Mapping[str, Any], now: datetime, *, unmade: float = 0.0
) -> Change | None:
    """Running → failed, the quota is given back; cancelling → cancelled.

    The charge stays: there was work, and an account whose generations always fail would otherwise never be charged.

    Args:
        error: {"code": …, "message": …}.
        unmade: of one that is being cancelled, see ``cancelled``.
    """
    row = await held(conn, lease)
    if row is None:
        return None
    if row["state"] == State.CANCELLING:
        return await _cancelled(conn, row, now, refund_s=lease.charge_s * unmade)
    return await _failed(conn, row, error, now)


async def reap(
    conn: AsyncConnection,
    generation_id: str,
    account_id: str,
    error: Mapping[str, Any],
    now: datetime,
    *,
    refund_s: float,
    retry: bool,
    wait_s: float = 0.0,
) -> Change | None:
    """Leased, but its worker has not been heard of: running → queued again, or failed; cancelling → cancelled.

    Args:
        error: what to say of it.
        refund_s: taken off the account's clock if it is tried again, or cancelled: nobody can say how much was made.
        retry: whether it is.
    """
    row = await locked(conn, generation_id, account_id)
    if row is None or row["state"] not in LEASED or row["lease_expires_at"] > now:
        return None
    if row["state"] == State.CANCELLING:
        return await _cancelled(conn, row, now, refund_s=refund_s)
    if not retry:
        return await _failed(conn, row, error, now)
    return await back_to_queue(conn, row, error, now, wait_s, counts=True, refund_s=refund_s)


# ---------------------------------------------------------------------------------------------- cancel
async def request_cancel(conn: AsyncConnection, generation_id: str, account_id: str, now: datetime) -> Change | None:
    """Queued → cancelled, and the quota is given back, for nothing was made; running → cancelling.

    What waits was never charged on the queue's clock, so that there is nothing to take back.
    """
    row = await locked(conn, generation_id, account_id)
    if row is None or row["state"] not in (State.QUEUED, State.RUNNING):
        return None
    if row["state"] == State.QUEUED:
        await quota.refund(conn, generation_id)
        return await end(conn, row, State.CANCELLED, now, cancel_requested_at=now)
    change = await move(conn, row, State.CANCELLING, cancel_requested_at=now)
    await move_tracks(conn, generation_id, State.CANCELLING)
    return change


async def cancelled(conn: AsyncConnection, lease: Lease, now: datetime, *, unmade: float = 0.0) -> Change | None:
    """Cancelling → cancelled, when the worker has stopped. The quota is not given back: there was work.

    Args:
        unmade: fraction of the audio that was not made; so much of the charge is taken back.
    """
    row = await held(conn, lease)
    if row is None or row["state"] != State.CANCELLING:
        return None
    return await _cancelled(conn, row, now, refund_s=lease.charge_s * unmade)


# --------------------------------------------------------------------------------------- parts of them
async def _cancelled(conn: AsyncConnection, row: RowMapping, now: datetime, *, refund_s: float) -> Change:
    await books.charge(conn, row["account_id"], -refund_s)
    return await end(conn, row, State.CANCELLED, now)


async def _failed(conn: AsyncConnection, row: RowMapping, error: Mapping[str, Any], now: datetime) -> Change:
    await quota.refund(conn, row["id"])
    return await end(conn, row, State.FAILED, now, error=dict(error))
