"""A generation that asks to be let in."""

from __future__ import annotations

from api.limits import Limits, Newcomer
from api.limits.concurrency import Mode
from api.limits.tiers import Tier
from api.store.database import Database
from tests.api.limits.rows import FOUR, add_generation, add_worker, tier


async def fill(database: Database, steps: int) -> None:
    """A worker of four slots and 200 steps a second, and one generation of four tracks that waits for it."""
    async with database.begin() as conn:
        await add_worker(conn, FOUR)
        await add_generation(conn, cost_steps=steps, num_tracks=4)


def newcomer(
    account_id: str = "acc_1", limit: Tier | None = None, mode: Mode = "async", model_id: str = "tiny"
) -> Newcomer:
    """One track of 10 s."""
    return Newcomer(account_id, model_id, limit or tier(), mode, 500, 1, 10.0)


async def ask(database: Database, limits: Limits, who: Newcomer | None = None) -> None:
    async with database.begin() as conn:
        await limits.admission.check(conn, who or newcomer())
