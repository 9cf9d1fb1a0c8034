"""What every change of a generation's state is made of: the lock, the fence, the row with its tracks, and the end.

The changes themselves are in ``api.generations.states``; nothing else calls these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.generations import books, outbox
from api.generations.view import GenerationView, State
from api.ids import new_id
from api.store.schema import generations, tracks
from api.telemetry.ended import Ended

_NO_LEASE = {"lease_owner": None, "lease_expires_at": None}


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a generation: to be told to its listeners once the transaction is committed.

    Attributes:
        ended: what is counted of it, if that was its end.
    """

    generation_id: str
    state: State
    version: int
    ended: Ended | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """One worker's hold on one attempt. Whatever it writes is refused as soon as it has ended.

    Attributes:
        attempt: counts the leases that were used; one that was given back unused is not counted.
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

    @property
    def fence(self) -> int:
        """The version that the lease made: no two leases of a generation have the same, as two attempts may.

        What an attempt leaves anywhere is named by it.
        """
        return self.view.version

    def holds(self, state: State, version: int) -> bool:
        """Whether a row in this state and version is in this lease's hands: a cancel is all that may have come."""
        return (state, version) in {(State.RUNNING, self.fence), (State.CANCELLING, self.fence + 1)}


async def locked(conn: AsyncConnection, generation_id: str, account_id: str) -> RowMapping | None:
    """The row, after its account was locked: nothing of the account changes until the transaction ends."""
    await books.lock(conn, account_id)
    mine = (generations.c.id == generation_id, generations.c.account_id == account_id)
    return (await conn.execute(select(generations).where(*mine))).mappings().first()


async def held(conn: AsyncConnection, lease: Lease) -> RowMapping | None:
    """The row, locked, if this lease still holds it."""
    row = await locked(conn, lease.generation_id, lease.view.account_id)
    if row is None or row["lease_owner"] != lease.owner:
        return None
    return row if lease.holds(State(row["state"]), row["version"]) else None


async def move(conn: AsyncConnection, row: RowMapping, state: State, **values: Any) -> Change:
    """Write the row's next version, and keep the queue's books."""
    version = row["version"] + 1
    await conn.execute(
        update(generations).where(generations.c.id == row["id"]).values(state=state, version=version, **values)
    )
    if State.QUEUED in (state, row["state"]):
        await books.note_waiting(conn, row["account_id"])
    return Change(row["id"], state, version)


async def move_tracks(conn: AsyncConnection, generation_id: str, state: State, **values: Any) -> None:
    await conn.execute(update(tracks).where(tracks.c.generation_id == generation_id).values(state=state, **values))


async def end(conn: AsyncConnection, row: RowMapping, state: State, now: datetime, **values: Any) -> Change:
    """Into a terminal state, with the webhook that tells of it."""
    change = await move(conn, row, state, finished_at=now, **_NO_LEASE, **values)
    await move_tracks(conn, row["id"], state, finished_at=now)
    event = {
        "event_id": new_id("evt"),
        "type": f"generation.{state}",
        "account_id": row["account_id"],
        "generation_id": row["id"],
    }
    await outbox.put(conn, outbox.WEBHOOK_EVENT, event, now)
    return replace(change, ended=Ended.of(dict(row), state, now, values.get("real_time_factor")))


async def back_to_queue(
    conn: AsyncConnection,
    row: RowMapping,
    error: Mapping[str, Any] | None,
    now: datetime,
    wait_s: float,
    *,
    counts: bool,
    refund_s: float,
) -> Change:
    """What it was charged it will be charged again.

    What expires is the patience to wait in the queue. The time in a worker's hands does not use it up, nor does the
    pause after an attempt that failed; the pause before an engine that was full asks again is waiting like any other.
    """
    available_at = now + timedelta(seconds=wait_s)
    await books.charge(conn, row["account_id"], -refund_s)
    change = await move(
        conn,
        row,
        State.QUEUED,
        available_at=available_at,
        expires_at=row["expires_at"] + ((available_at if counts else now) - row["started_at"]),
        attempt=row["attempt"] if counts else row["attempt"] - 1,
        error=dict(error) if error is not None else row["error"],
        **_NO_LEASE,
    )
    await move_tracks(conn, row["id"], State.QUEUED)
    return change


async def discard(conn: AsyncConnection, audio: Mapping[str, Mapping[str, Any]], now: datetime) -> None:
    """Have stored audio removed that no track has.

    One may have it after all: a commit whose answer was lost is made again, and finds its own result.

    Args:
        audio: track id → columns of ``tracks``, as ``states.succeed`` takes it.
    """
    stored = [columns["object_key"] for columns in audio.values()]
    if not stored:
        return
    used = set((await conn.execute(select(tracks.c.object_key).where(tracks.c.object_key.in_(stored)))).scalars())
    for object_key in stored:
        if object_key not in used:
            await outbox.put(conn, outbox.OBJECT_DELETE, {"object_key": object_key}, now)
