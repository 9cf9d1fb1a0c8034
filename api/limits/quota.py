"""What an account may use per hour and day: reserved in the transaction that accepts a call, given back once.

The row of each window is made if it is missing, and otherwise counted up where ``used + n <= limit``: whatever runs at
the same time, the database lets exactly the limit through. Windows are whole hours, days and months in UTC. The month
has no limit; it is counted for the account's own view.

Locks are always taken in the order accounts, then hour, day, month, so that no two transactions wait for each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypedDict

from sqlalchemy import RowMapping, and_, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import ApiError, ErrorCode
from api.limits.quota_sql import EPSILON_S, WINDOWS, WindowName, giving_back, reserving
from api.limits.tiers import Tier
from api.store.schema import generations as generations_table
from api.store.schema import usage_windows as table

_KEPT = {"hour": timedelta(days=2), "day": timedelta(days=62), "month": timedelta(days=800)}


class Reservation(TypedDict):
    """One window's part of what a generation holds, as stored in ``generations.quota_windows``."""

    window: WindowName
    starts_at: str
    generations: int
    audio_s: float


@dataclass(frozen=True, slots=True)
class Usage:
    """One window of an account. Limits of ``None`` are without limit."""

    window: WindowName
    starts_at: datetime
    resets_at: datetime
    generations: int
    generations_limit: int | None
    audio_s: float
    audio_s_limit: float | None


async def reserve(
    conn: AsyncConnection, account_id: str, tier: Tier, *, generations: int, audio_s: float, now: datetime
) -> list[Reservation]:
    """Take from every window, or from none.

    Args:
        conn: the caller's transaction. It must be rolled back if this raises, as it is when the error leaves it.
        audio_s: seconds, tracks × duration.

    Returns:
        What to store in ``generations.quota_windows``.

    Raises:
        ApiError: quota_exceeded, naming the window that is used up and when it begins anew.
        ValueError: more than an empty window holds; the tier's maxima rule that out, and are to be checked before.
    """
    starts = {window: window_start(window, now) for window in WINDOWS}
    for window in WINDOWS:
        if not _fits(tier, window, generations, audio_s):
            raise ValueError(
                f"{generations} generations of {audio_s:g} s are more than a {window} of {tier.name} holds"
            )
    counts = {window: _generations_limit(tier, window) for window in WINDOWS}
    audio = {window: _audio_limit(tier, window) for window in WINDOWS}
    statement = reserving(
        conn.dialect.name,
        frozenset(window for window in WINDOWS if counts[window] is not None),
        frozenset(window for window in WINDOWS if audio[window] is not None),
    )
    named = {
        **{f"{window}_starts_at": at for window, at in starts.items()},
        **{f"{window}_generations": limit for window, limit in counts.items() if limit is not None},
        **{f"{window}_audio_s": limit + EPSILON_S for window, limit in audio.items() if limit is not None},
    }
    counted = await conn.execute(
        statement, {**named, "account_id": account_id, "taken": generations, "taken_audio_s": audio_s}
    )
    passed = set(counted.scalars())
    for window, starts_at in starts.items():
        if window not in passed:
            raise await _exceeded(conn, account_id, tier, window, starts_at, generations, now)
    return [
        Reservation(window=window, starts_at=at.isoformat(), generations=generations, audio_s=audio_s)
        for window, at in starts.items()
    ]


async def refund(conn: AsyncConnection, generation_id: str) -> bool:
    """Give back what a generation holds. Called twice, or twice at once, it gives back once.

    The generation's row says what it holds; it is locked, emptied and the windows are counted down in one transaction.

    Returns:
        Whether anything was given back.
    """
    held = select(generations_table.c.account_id, generations_table.c.quota_windows)
    # SQLite has no FOR UPDATE and needs none: a write transaction is alone from its beginning.
    row = (await conn.execute(held.where(generations_table.c.id == generation_id).with_for_update())).first()
    if row is None or not row.quota_windows:
        return False
    await conn.execute(
        update(generations_table).where(generations_table.c.id == generation_id).values(quota_windows=[])
    )
    reservations: list[Reservation] = row.quota_windows
    for each in sorted(reservations, key=lambda one: WINDOWS.index(one["window"])):
        starts_at = datetime.fromisoformat(each["starts_at"])
        await conn.execute(giving_back(row.account_id, each["window"], starts_at, each["generations"], each["audio_s"]))
    return True


async def usage(conn: AsyncConnection, account_id: str, tier: Tier, now: datetime) -> list[Usage]:
    """The current hour, day and month of an account."""
    starts = {window: window_start(window, now) for window in WINDOWS}
    current = or_(*(and_(table.c.window == window, table.c.starts_at == at) for window, at in starts.items()))
    found = await conn.execute(select(table).where(table.c.account_id == account_id, current))
    used: dict[str, RowMapping] = {row["window"]: row for row in found.mappings()}
    return [
        Usage(
            window=window,
            starts_at=starts[window],
            resets_at=window_end(window, now),
            generations=used[window]["generations"] if window in used else 0,
            generations_limit=_generations_limit(tier, window),
            audio_s=round(used[window]["audio_s"], 3) if window in used else 0.0,
            audio_s_limit=_audio_limit(tier, window),
        )
        for window in WINDOWS
    ]


async def purge(conn: AsyncConnection, now: datetime) -> int:
    """Remove windows that nobody will ask for again: hours after 2 days, days after 2 months, months after 2 years."""
    old = or_(*(and_(table.c.window == window, table.c.starts_at < now - kept) for window, kept in _KEPT.items()))
    return (await conn.execute(delete(table).where(old))).rowcount


def window_start(window: WindowName, now: datetime) -> datetime:
    """The beginning of the hour, day or month, in UTC, that holds ``now``."""
    hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if window == "hour":
        return hour
    return hour.replace(hour=0) if window == "day" else hour.replace(hour=0, day=1)


def window_end(window: WindowName, now: datetime) -> datetime:
    """The beginning of the next one."""
    length = {"hour": timedelta(hours=1), "day": timedelta(days=1), "month": timedelta(days=32)}[window]
    return window_start(window, window_start(window, now) + length)


def _generations_limit(tier: Tier, window: WindowName) -> int | None:
    return {"hour": tier.generations_per_hour, "day": tier.generations_per_day, "month": None}[window]


def _audio_limit(tier: Tier, window: WindowName) -> float | None:
    return tier.audio_s_per_day if window == "day" else None


def _fits(tier: Tier, window: WindowName, generations: int, audio_s: float) -> bool:
    count, audio = _generations_limit(tier, window), _audio_limit(tier, window)
    return (count is None or generations <= count) and (audio is None or audio_s <= audio + EPSILON_S)


async def _exceeded(
    conn: AsyncConnection,
    account_id: str,
    tier: Tier,
    window: WindowName,
    starts_at: datetime,
    generations: int,
    now: datetime,
) -> ApiError:
    key = (table.c.account_id == account_id, table.c.window == window, table.c.starts_at == starts_at)
    used = (await conn.execute(select(table.c.generations, table.c.audio_s).where(*key))).one()
    count, audio = _generations_limit(tier, window), _audio_limit(tier, window)
    by_count = count is not None and used.generations + generations > count
    unit, limit, spent = ("generations", count, used.generations) if by_count else ("audio_s", audio, used.audio_s)
    resets_at = window_end(window, now)
    allowance = f"{limit} generations" if by_count else f"{limit:g} seconds of audio"
    return ApiError(
        ErrorCode.QUOTA_EXCEEDED,
        f"the {tier.name} tier allows {allowance} per {window}, and this call would exceed them: "
        f"wait until {resets_at.isoformat()}, or move to a larger tier",
        details={
            "window": window,
            "unit": unit,
            "limit": limit,
            "used": round(spent, 3),
            "reset_at": resets_at.isoformat(),
        },
        retry_after_s=(resets_at - now).total_seconds(),
    )
