"""What the arithmetic of waiting reads from the database."""

from __future__ import annotations

from datetime import timedelta

from api.generations import backlog_sql
from api.store.database import Database
from autoscaling.backlog import Capacity, Line, ModelBacklog, Work
from tests.api.limits.rows import NOW, add_account, add_generation, add_worker


def by_account(*lines: Line) -> dict[str, Line]:
    return {line.account_id: line for line in lines}


async def test_what_is_read(database: Database) -> None:
    await add_account(database)
    await add_account(database, "acc_2", virtual_s=2.5)
    await add_account(database, "acc_3", tier="pro")
    async with database.begin() as conn:
        await add_worker(conn, {"tiny": {"slots": 4, "steps_per_s": 200}, "small": {"slots": 2, "steps_per_s": 20.5}})
        await add_worker(conn, {"tiny": {"slots": 4, "steps_per_s": 200}}, age_s=9)
        await add_worker(conn, {"tiny": {"slots": 4, "steps_per_s": 200}}, age_s=11)  # gone
        await add_worker(conn, {"tiny": {"slots": 4, "steps_per_s": None}, "small": {"slots": 0, "steps_per_s": 1}})
        await add_generation(conn)
        await add_generation(conn, "acc_2")
        await add_generation(conn, "acc_2", num_tracks=2, cost_steps=1000)
        await add_generation(conn, "acc_3", num_tracks=2, cost_steps=1000)  # made while it was in another tier
        started_at = NOW - timedelta(seconds=4)
        await add_generation(conn, state="running", num_tracks=2, cost_steps=1000, started_at=started_at)
        await add_generation(conn, state="cancelling", started_at=NOW - timedelta(seconds=20))
        await add_generation(conn, model_id="large", state="running", started_at=NOW)  # of a worker that is gone
        await add_generation(conn, model_id="small", state="running")
        for state in ("succeeded", "failed", "cancelled", "expired"):
            await add_generation(conn, state=state)
    async with database.read() as conn:
        found = await backlog_sql.load(conn, NOW)
    assert found.taken_at == NOW
    assert found.models == {
        "tiny": ModelBacklog(
            Capacity(4, 200.0),
            Work(600.0, 3, 2),
            {
                "free": by_account(
                    Line("acc_1", 0.0, Work(500.0, 1, 1), 10.0), Line("acc_2", 2.5, Work(1500.0, 3, 2), 30.0)
                ),
                "pro": by_account(Line("acc_3", 0.0, Work(1000.0, 2, 1), 20.0)),
            },
        ),
        "small": ModelBacklog(Capacity(2, 20.5), Work(500.0, 1, 1)),
        "large": ModelBacklog(None, Work(500.0, 1, 1)),
    }
    assert found.of("nowhere") == ModelBacklog()
    assert found.of("tiny").running.ends_s == (0.0, 6.0, 6.0)  # of 10 s each, begun 20 and 4 s ago
    assert found.of("small").running.ends_s == (500 / 10.25,)
    assert found.of("large").running.ends_s == ()
    assert found.of("tiny").running.by_tier == {"free": 3}


async def test_the_places_that_all_workers_feed_count_once(database: Database) -> None:
    """The newest word counts, from whomever, and how fast a track goes is the mean of who measured it."""
    async with database.begin() as conn:
        await add_worker(conn, {"tiny": {"slots": 10, "steps_per_s": 200, "at_hand": 2}}, age_s=2)
        await add_worker(conn, {"tiny": {"slots": 20, "steps_per_s": 800, "at_hand": 4}}, age_s=1)
        await add_worker(conn, {"tiny": {"slots": 20, "steps_per_s": None, "at_hand": 4}}, age_s=0.5)
    async with database.read() as conn:
        assert await backlog_sql.capacity(conn, NOW) == {"tiny": Capacity(20, 600.0, at_hand=4)}
        # Who was not seen for more than ten seconds has no word in it.
        assert await backlog_sql.capacity(conn, NOW + timedelta(seconds=8.5)) == {
            "tiny": Capacity(20, 800.0, at_hand=4)
        }
        assert await backlog_sql.capacity(conn, NOW + timedelta(seconds=9.2)) == {}


async def test_an_empty_database(database: Database) -> None:
    async with database.read() as conn:
        assert (await backlog_sql.load(conn, NOW)).models == {}
