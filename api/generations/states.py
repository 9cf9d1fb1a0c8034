"""Every change of a generation's state, one function each, and no other place where one happens.

Each function is part of its caller's write transaction. It locks the account first, so that changes of one account pass
one after the other, then looks at the row, and either makes the whole change (row, version, times, tracks, the queue's
books, quota, webhook) or, if the state does not allow it, none of it and returns None. That is the normal answer to a
worker that lost its lease and to a cancel that came too late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.generations import books, outbox
from api.generations.rows import read
from api.generations.view import LEASED, GenerationView, State
from api.ids import new_id
from api.limits import quota
from api.store.schema import generations, tracks

LEASE_S = 10.0

_NO_LEASE = {"lease_owner": None, "lease_expires_at": None}


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a generation: to be told to its listeners once the transaction is committed."""

    generation_id: str
    state: State
    version: int


@dataclass(frozen=True, slots=True)
class Lease:
    """One worker's hold on one attempt. Whatever it writes is refused as soon as another attempt has begun.

    Attributes:
        attempt: counts up with every lease; with the owner, the fence.
        previous_error: of the attempt before this one.
        charge_s: what the account was charged on the fair queue's clock.
    """

    view: GenerationView
    owner: str
    attempt: int
    previous_error: Mapping[str, Any] | None
    charge_s: float

    @property
    def generation_id(self) -> str:
        return self.view.id


# ---------------------------------------------------------------------------------------------- queued
async def create(conn: AsyncConnection, row: Mapping[str, Any], track_rows: Sequence[Mapping[str, Any]]) -> None:
    """Nothing → queued. The account's clock is lifted if it comes back from idle.

    Args:
        row, track_rows: columns of ``generations`` and ``tracks``, without the states.
    """
    account_id = row["account_id"]
    await books.lock(conn, account_id)
    await books.lift(conn, account_id)
    await conn.execute(insert(generations).values(**row, state=State.QUEUED))
    await conn.execute(insert(tracks), [{**each, "state": State.QUEUED} for each in track_rows])


async def requeue(
    conn: AsyncConnection,
    lease: Lease,
    error: Mapping[str, Any] | None,
    now: datetime,
    *,
    wait_s: float = 0.0,
    counts: bool = True,
) -> Change | None:
    """Running → queued, for another attempt; cancelling → cancelled.

    Args:
        error: why; None when a worker that stops gives it back.
        wait_s: not leased again before.
        counts: False takes the attempt back: nothing was tried.
    """
    row = await _held(conn, lease)
    if row is None:
        return None
    if row["state"] == State.CANCELLING:
        return await _cancelled(conn, row, now)
    return await _back_to_queue(conn, row, error, now, wait_s, counts=counts, refund_s=lease.charge_s)


async def expire(conn: AsyncConnection, generation_id: str, account_id: str, now: datetime) -> Change | None:
    """Queued, and past its expiry → expired. The quota is given back."""
    row = await _locked(conn, generation_id, account_id)
    if row is None or row["state"] != State.QUEUED or row["expires_at"] > now:
        return None
    await quota.refund(conn, generation_id)
    return await _end(conn, row, State.EXPIRED, now)


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
) -> Lease | None:
    """Queued → running: a worker takes it, and the account is charged on the fair queue's clock.

    Args:
        charge_s: audio-seconds, weighted.
    """
    row = await _locked(conn, generation_id, account_id)
    if row is None or row["state"] != State.QUEUED or row["available_at"] > now or row["expires_at"] <= now:
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
    await _set(conn, row, State.RUNNING, **values)
    await books.charge(conn, account_id, charge_s)
    await _set_tracks(conn, generation_id, State.RUNNING)
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
    row = await _held(conn, lease)
    if row is None or row["state"] == State.CANCELLING:
        for columns in audio.values():
            await outbox.put(conn, outbox.OBJECT_DELETE, {"object_key": columns["object_key"]}, now)
        return None if row is None else await _cancelled(conn, row, now)
    for track_id, columns in audio.items():
        await conn.execute(update(tracks).where(tracks.c.id == track_id).values(**columns))
    return await _end(
        conn,
        row,
        State.SUCCEEDED,
        now,
        first_audio_at=first_audio_at,
        real_time_factor=real_time_factor,
        error=None,
    )


async def fail(conn: AsyncConnection, lease: Lease, error: Mapping[str, Any], now: datetime) -> Change | None:
    """Running → failed, the quota is given back; cancelling → cancelled.

    Args:
        error: {"code": …, "message": …}.
    """
    row = await _held(conn, lease)
    if row is None:
        return None
    if row["state"] == State.CANCELLING:
        return await _cancelled(conn, row, now)
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
        refund_s: taken off the account's clock if it is tried again.
        retry: whether it is.
    """
    row = await _locked(conn, generation_id, account_id)
    if row is None or row["state"] not in LEASED or row["lease_expires_at"] > now:
        return None
    if row["state"] == State.CANCELLING:
        return await _cancelled(conn, row, now)
    if not retry:
        return await _failed(conn, row, error, now)
    return await _back_to_queue(conn, row, error, now, wait_s, counts=True, refund_s=refund_s)


# ---------------------------------------------------------------------------------------------- cancel
async def request_cancel(conn: AsyncConnection, generation_id: str, account_id: str, now: datetime) -> Change | None:
    """Queued → cancelled, and the quota is given back, for nothing was made; running → cancelling."""
    row = await _locked(conn, generation_id, account_id)
    if row is None or row["state"] not in (State.QUEUED, State.RUNNING):
        return None
    if row["state"] == State.QUEUED:
        await quota.refund(conn, generation_id)
        return await _end(conn, row, State.CANCELLED, now, cancel_requested_at=now)
    change = await _set(conn, row, State.CANCELLING, cancel_requested_at=now)
    await _set_tracks(conn, generation_id, State.CANCELLING)
    return change


async def cancelled(conn: AsyncConnection, lease: Lease, now: datetime, *, unmade: float = 0.0) -> Change | None:
    """Cancelling → cancelled, when the worker has stopped. The quota is not given back: there was work.

    Args:
        unmade: fraction of the audio that was not made; so much of the charge is taken back.
    """
    row = await _held(conn, lease)
    if row is None or row["state"] != State.CANCELLING:
        return None
    await books.charge(conn, row["account_id"], -lease.charge_s * unmade)
    return await _cancelled(conn, row, now)


# --------------------------------------------------------------------------------------- parts of them
async def _locked(conn: AsyncConnection, generation_id: str, account_id: str) -> RowMapping | None:
    await books.lock(conn, account_id)
    mine = (generations.c.id == generation_id, generations.c.account_id == account_id)
    return (await conn.execute(select(generations).where(*mine))).mappings().first()


async def _held(conn: AsyncConnection, lease: Lease) -> RowMapping | None:
    """The row, if this lease still holds it."""
    row = await _locked(conn, lease.generation_id, lease.view.account_id)
    if row is None or row["state"] not in LEASED:
        return None
    return row if (row["lease_owner"], row["attempt"]) == (lease.owner, lease.attempt) else None


async def _set(conn: AsyncConnection, row: RowMapping, state: State, **values: Any) -> Change:
    version = row["version"] + 1
    await conn.execute(
        update(generations).where(generations.c.id == row["id"]).values(state=state, version=version, **values)
    )
    if State.QUEUED in (state, row["state"]):
        await books.note_waiting(conn, row["account_id"])
    return Change(row["id"], state, version)


async def _set_tracks(conn: AsyncConnection, generation_id: str, state: State, **values: Any) -> None:
    await conn.execute(update(tracks).where(tracks.c.generation_id == generation_id).values(state=state, **values))


async def _end(conn: AsyncConnection, row: RowMapping, state: State, now: datetime, **values: Any) -> Change:
    """Into a terminal state, with the webhook that tells of it."""
    change = await _set(conn, row, state, finished_at=now, **_NO_LEASE, **values)
    await _set_tracks(conn, row["id"], state, finished_at=now)
    event = {
        "event_id": new_id("evt"),
        "type": f"generation.{state}",
        "account_id": row["account_id"],
        "generation_id": row["id"],
    }
    await outbox.put(conn, outbox.WEBHOOK_EVENT, event, now)
    return change


async def _cancelled(conn: AsyncConnection, row: RowMapping, now: datetime) -> Change:
    return await _end(conn, row, State.CANCELLED, now)


async def _failed(conn: AsyncConnection, row: RowMapping, error: Mapping[str, Any], now: datetime) -> Change:
    await quota.refund(conn, row["id"])
    return await _end(conn, row, State.FAILED, now, error=dict(error))


async def _back_to_queue(
    conn: AsyncConnection,
    row: RowMapping,
    error: Mapping[str, Any] | None,
    now: datetime,
    wait_s: float,
    *,
    counts: bool,
    refund_s: float,
) -> Change:
    """What it was charged it will be charged again. Its time to wait begins anew, unless nothing was tried at all."""
    available_at = now + timedelta(seconds=wait_s)
    anew = available_at + (row["expires_at"] - row["created_at"])
    await books.charge(conn, row["account_id"], -refund_s)
    change = await _set(
        conn,
        row,
        State.QUEUED,
        available_at=available_at,
        expires_at=max(row["expires_at"], anew) if counts or error is None else row["expires_at"],
        attempt=row["attempt"] if counts else row["attempt"] - 1,
        error=dict(error) if error is not None else row["error"],
        **_NO_LEASE,
    )
    await _set_tracks(conn, row["id"], State.QUEUED)
    return change
