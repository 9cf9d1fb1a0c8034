"""The arithmetic of waiting, and what it reads from the database."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.generations import backlog as module
from api.generations.backlog import Capacity, ModelBacklog, Work, ahead_of, own_wait_s, share_of, wait_s
from api.store.database import Database
from tests.api.limits.rows import NOW, add_account, add_generation, add_worker

SHARES = {"free": 0.1, "pro": 0.3, "enterprise": 0.6}
EIGHT = Capacity(slots=8, steps_per_s=400.0)  # 50 steps/s for each of eight tracks

works = st.builds(
    lambda generations, tracks, steps: Work(float(generations * tracks * steps), generations * tracks, generations),
    st.integers(0, 1000),
    st.integers(1, 8),
    st.integers(1, 30_000),
)
capacities = st.builds(Capacity, st.integers(1, 1000), st.floats(0.1, 1e6))
backlogs = st.builds(
    ModelBacklog, capacities, works, st.dictionaries(st.sampled_from([*SHARES, "gone"]), works, max_size=4)
)
tiers = st.sampled_from(list(SHARES))
CLOSE = 1e-9


def test_the_figures_of_one_track() -> None:
    assert EIGHT.track_steps_per_s == 50
    assert EIGHT.run_s(500, 1) == 10
    assert EIGHT.run_s(1000, 2) == 10  # side by side
    assert Capacity(1, 50).run_s(1000, 2) == 20  # one after the other
    assert EIGHT.remaining_steps(1000, 2, 4) == 600
    assert EIGHT.remaining_steps(1000, 2, 11) == 0
    assert EIGHT.remaining_steps(1000, 2, -1) == 1000  # a worker whose clock is ahead


@pytest.mark.parametrize(("slots", "rate"), [(0, 1.0), (1, 0.0), (1, -1.0), (1, float("nan"))])
def test_what_is_no_capacity(slots: int, rate: float) -> None:
    with pytest.raises(ValueError, match="at least one slot and a rate above 0"):
        Capacity(slots, rate)


def test_nobody_waits_while_there_are_slots() -> None:
    busy = ModelBacklog(EIGHT, Work(3000, 6, 6))
    assert wait_s("free", Work(), 2, busy, SHARES) == 0
    assert wait_s("free", Work(), 3, busy, SHARES) == 3000 / 400
    assert wait_s("free", Work(), 1, ModelBacklog(EIGHT), SHARES) == 0


def test_without_a_worker_nobody_can_say() -> None:
    assert wait_s("free", Work(), 1, ModelBacklog(), SHARES) is None


def test_a_line_of_one_tier_has_all_the_capacity() -> None:
    queued = ModelBacklog(EIGHT, Work(4000, 8, 8), {"free": Work(40_000, 80, 80)})
    assert share_of("free", queued, SHARES) == 1
    assert wait_s("free", queued.queued["free"], 1, queued, SHARES) == 110


def test_the_larger_share_waits_less() -> None:
    queued = ModelBacklog(EIGHT, Work(), {"free": Work(40_000, 80, 80), "enterprise": Work(40_000, 80, 80)})
    assert share_of("free", queued, SHARES) == pytest.approx(1 / 7)
    # Its own 40,000 steps, while the free line advances by a sixth of that.
    assert wait_s("enterprise", Work(40_000, 80, 80), 1, queued, SHARES) == pytest.approx(40_000 * 7 / 6 / 400)
    # At most everything there is.
    assert wait_s("free", Work(40_000, 80, 80), 1, queued, SHARES) == pytest.approx(80_000 / 400)
    # An empty line begins at once when something ends.
    assert ahead_of("pro", Work(), queued, SHARES) == Work()


@given(backlogs, tiers, works, st.integers(1, 8))
def test_waiting_is_bounded_by_all_there_is(backlog: ModelBacklog, tier: str, own: Work, tracks: int) -> None:
    wait = wait_s(tier, own, tracks, backlog, SHARES)
    assert wait is not None
    assert backlog.capacity is not None
    others = sum((work.steps for name, work in backlog.queued.items() if name != tier), 0.0)
    most = (backlog.running.steps + own.steps + others) / backlog.capacity.steps_per_s
    assert 0 <= wait <= most * (1 + CLOSE)


@given(backlogs, tiers, works, works, st.integers(1, 8))
def test_more_ahead_is_never_sooner(backlog: ModelBacklog, tier: str, own: Work, more: Work, tracks: int) -> None:
    wait, longer = (wait_s(tier, work, tracks, backlog, SHARES) for work in (own, own + more))
    assert wait is not None
    assert longer is not None
    assert wait <= longer * (1 + CLOSE)


@given(backlogs, tiers, works, works)
def test_another_tiers_work_is_never_a_help(backlog: ModelBacklog, tier: str, own: Work, more: Work) -> None:
    other = next(name for name in SHARES if name != tier)
    wait, longer = (wait_s(tier, own, 1, each, SHARES) for each in (backlog, backlog.with_queued(other, more)))
    assert wait is not None
    assert longer is not None
    assert wait <= longer * (1 + CLOSE)


@given(backlogs, tiers, works)
def test_of_what_is_ahead_nothing_is_made_up(backlog: ModelBacklog, tier: str, own: Work) -> None:
    ahead = ahead_of(tier, own, backlog, SHARES)
    everything = backlog.waiting + own
    assert own.generations <= ahead.generations <= everything.generations
    assert own.tracks <= ahead.tracks <= everything.tracks
    assert own.steps <= ahead.steps <= everything.steps * (1 + CLOSE)


@given(backlogs)
def test_shares_of_all_lines_add_up(backlog: ModelBacklog) -> None:
    busy = [name for name in SHARES if backlog.queued.get(name, Work()).generations > 0]
    if busy:
        assert sum(share_of(name, backlog, SHARES) for name in busy) == pytest.approx(1)


@given(capacities, st.integers(1, 10**6), st.integers(1, 8), st.floats(-10, 1e5))
def test_what_is_left_runs_out(capacity: Capacity, steps: int, tracks: int, elapsed_s: float) -> None:
    left = capacity.remaining_steps(steps, tracks, elapsed_s)
    assert 0 <= left <= steps
    whole_s = capacity.run_s(steps, tracks)
    expected = max(0.0, whole_s - max(0.0, elapsed_s))
    assert capacity.run_s(left, tracks) == pytest.approx(expected, abs=1e-6 * (1 + whole_s))


seconds = st.lists(st.floats(0, 1e4), max_size=40)


def by_hand(running_s: list[float], ahead_s: list[float], places: int) -> float:
    """The same, one place after the other."""
    free_at = [0.0] * places + sorted(running_s)
    free_at = (
        sorted(free_at)[-places:] if len(running_s) >= places else sorted(running_s + [0.0] * (places - len(running_s)))
    )
    for each in ahead_s:
        free_at.sort()
        free_at[0] += each
    return min(free_at)


@given(seconds, seconds, st.integers(1, 8))
def test_an_accounts_own_places(running_s: list[float], ahead_s: list[float], places: int) -> None:
    assert own_wait_s(running_s, ahead_s, places) == pytest.approx(by_hand(running_s, ahead_s, places))


async def test_what_is_read(database: Database) -> None:
    await add_account(database)
    await add_account(database, "acc_2")
    async with database.begin() as conn:
        await add_worker(conn, {"tiny": {"slots": 4, "steps_per_s": 200}, "small": {"slots": 2, "steps_per_s": 20.5}})
        await add_worker(conn, {"tiny": {"slots": 4, "steps_per_s": 200}}, age_s=9)
        await add_worker(conn, {"tiny": {"slots": 4, "steps_per_s": 200}}, age_s=11)  # gone
        await add_worker(conn, {"tiny": {"slots": 4, "steps_per_s": None}, "small": {"slots": 0, "steps_per_s": 1}})
        await add_generation(conn)
        await add_generation(conn, "acc_2", num_tracks=2, cost_steps=1000)
        await add_generation(conn, tier="pro", num_tracks=2, cost_steps=1000)
        started_at = NOW - timedelta(seconds=4)
        await add_generation(conn, state="running", num_tracks=2, cost_steps=1000, started_at=started_at)
        await add_generation(conn, state="cancelling", started_at=NOW - timedelta(seconds=20))
        await add_generation(conn, model_id="large", state="running", started_at=NOW)  # of a worker that is gone
        await add_generation(conn, model_id="small", state="running")
        for state in ("succeeded", "failed", "cancelled", "expired"):
            await add_generation(conn, state=state)
    async with database.read() as conn:
        found = await module.load(conn, NOW)
    assert found.taken_at == NOW
    assert found.models == {
        "tiny": ModelBacklog(EIGHT, Work(600.0, 3, 2), {"free": Work(1500.0, 3, 2), "pro": Work(1000.0, 2, 1)}),
        "small": ModelBacklog(Capacity(2, 20.5), Work(500.0, 1, 1)),
        "large": ModelBacklog(None, Work(500.0, 1, 1)),
    }
    assert found.of("nowhere") == ModelBacklog()


async def test_an_empty_database(database: Database) -> None:
    async with database.read() as conn:
        assert (await module.load(conn, NOW)).models == {}
