"""How many generations of one account may be under way at the same time."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import ApiError, ErrorCode
from api.limits.tiers import Tier
from api.store.schema import accounts, generations

Mode = Literal["async", "stream"]

ACTIVE = ("queued", "running", "cancelling")

_LOCK = select(accounts.c.id).where(accounts.c.id == bindparam("account_id")).with_for_update(key_share=True)
_COUNT = (
    select(generations.c.state, func.count())
    .where(generations.c.account_id == bindparam("account_id"), generations.c.state.in_(ACTIVE))
    .group_by(generations.c.state)
)


async def check(conn: AsyncConnection, account_id: str, tier: Tier, mode: Mode) -> None:
    """Refuse one generation more than the tier allows. Exact: calls of one account pass one after the other.

    An asynchronous one may wait: there is room for ``running + queued``. A streamed one is listened to now, so all
    that is under way, itself included, must fit into ``running``.

    Args:
        conn: the caller's write transaction, which goes on to insert the generation. On SQLite it is alone from its
            beginning. On PostgreSQL the account's row is locked until its end. That lock is FOR NO KEY UPDATE: rows
            that refer to the account hold FOR KEY SHARE on it, and two calls that have both inserted one (their
            idempotency key) would wait for each other under FOR UPDATE.

    Raises:
        ApiError: concurrency_limit_exceeded.
    """
    named = {"account_id": account_id}
    if conn.dialect.name != "sqlite":
        await conn.execute(_LOCK, named)
    counted = await conn.execute(_COUNT, named)
    active = {state: int(count) for state, count in counted}
    limit = tier.running if mode == "stream" else tier.running + tier.queued
    if sum(active.values()) < limit:
        return
    wanted = "streamed at once" if mode == "stream" else "under way or waiting"
    raise ApiError(
        ErrorCode.CONCURRENCY_LIMIT_EXCEEDED,
        f"the {tier.name} tier allows {limit} generations {wanted}, and as many are: "
        "wait for one to end, cancel one, or move to a larger tier",
        details={"mode": mode, "limit": limit, **{state: active.get(state, 0) for state in ACTIVE}},
    )
