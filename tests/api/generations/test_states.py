"""Transitions: random sequences of whatever callers may try, legal or not, in whatever order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.generations.books import LATER
from api.generations.leases import acquire
from api.generations.states import Change, Lease
from api.generations.view import TERMINAL, State
from autoscaling.fairness import Shares, Slots
from tests.api.generations.conftest import Bench, MakeBench, ManualClock
from tests.api.generations.life import ACTIONS, Life, live

EDGES = {
    (State.QUEUED, State.RUNNING),
    (State.QUEUED, State.CANCELLED),
    (State.QUEUED, State.EXPIRED),
    (State.RUNNING, State.QUEUED),
    (State.RUNNING, State.SUCCEEDED),
    (State.RUNNING, State.FAILED),
    (State.RUNNING, State.CANCELLING),
    (State.CANCELLING, State.CANCELLED),
}


@given(st.lists(st.sampled_from(ACTIONS), max_size=14))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_tried_only_legal_changes_happen(make_bench: MakeBench, actions: list[str]) -> None:
    life = await live(make_bench, ManualClock())
    before = await life.bench.row(life.id)
    for action in actions:
        change = await life.do(action)
        after = await life.bench.row(life.id)
        check_step(action, before, after, change)
        await check_whole(life, after)
        before = after


def check_step(action: str, before: Mapping[str, Any], after: Mapping[str, Any], change: Change | Lease | None) -> None:
    if change is None:
        assert dict(before) == dict(after), action
        return
    assert (State(before["state"]), State(after["state"])) in EDGES, action
    assert not action.startswith("old_")
    assert after["version"] == before["version"] + 1
    if isinstance(change, Change):
        assert (change.state, change.version) == (after["state"], after["version"])
    else:
        assert (change.view.state, change.view.version, change.attempt) == (
            "running",
            after["version"],
            after["attempt"],
        )


async def check_whole(life: Life, row: Mapping[str, Any]) -> None:
    state = State(row["state"])
    ended = state in TERMINAL
    tracks = await life.bench.track_rows(life.id)
    assert [track["state"] for track in tracks] == [state] * 2
    assert not {track["object_key"] for track in tracks} & await thrown_away(life)
    assert await life.bench.events(life.id) == ([f"generation.{state}"] if ended else [])
    assert (row["finished_at"] is not None) == ended
    assert (row["lease_owner"] is not None) == (state in (State.RUNNING, State.CANCELLING))
    account = await life.bench.account_row(life.owner)
    assert account["waiting"] == (state == State.QUEUED)
    assert account["virtual_s"] >= -1e-9
    never_ran = row["attempt"] == 0 and not life.leases
    given_back = state in (State.FAILED, State.EXPIRED) or (state == State.CANCELLED and never_ran)
    if state != State.CANCELLED or never_ran:
        assert await life.bench.used(life.owner) == (0 if given_back else 1)


async def thrown_away(life: Life) -> set[str]:
    return {each["object_key"] for each in await life.bench.outbox("object.delete")}


# ----------------------------------------------------------------------------------------- one by one
async def test_a_cancel_in_the_queue_gives_the_quota_back(make_bench: MakeBench, manual_clock: ManualClock) -> None:
    life = await live(make_bench, manual_clock)
    assert await life.bench.used(life.owner) == 1
    await life.do("cancel")
    assert await life.bench.used(life.owner) == 0


async def test_a_cancel_after_work_has_begun_keeps_the_quota(make_bench: MakeBench, manual_clock: ManualClock) -> None:
    life = await live(make_bench, manual_clock)
    for action in ("start", "cancel", "cancelled"):
        assert await life.do(action) is not None
    assert await life.bench.used(life.owner) == 1


async def test_the_clock_of_the_queue_is_charged_and_refunded(make_bench: MakeBench, manual_clock: ManualClock) -> None:
    life = await live(make_bench, manual_clock)

    async def virtual_s() -> float:
        return float((await life.bench.account_row(life.owner))["virtual_s"])

    await life.do("start")
    assert await virtual_s() == 4.0
    await life.do("requeue")
    assert await virtual_s() == 0.0
    await life.do("start")
    await life.do("cancel")
    await life.do("cancelled")
    assert await virtual_s() == 2.0  # half of it was made


@pytest.mark.parametrize("ending", ["requeue", "give_back", "fail"])
async def test_a_cancel_gives_back_what_was_not_made_however_the_attempt_ends(
    make_bench: MakeBench, manual_clock: ManualClock, ending: str
) -> None:
    """An error, or a worker that stops, may come before the worker has heard of the cancel."""
    life = await live(make_bench, manual_clock)
    for action in ("start", "cancel", ending):
        await life.do(action)
    assert (await life.bench.row(life.id))["state"] == "cancelled"
    assert (await life.bench.account_row(life.owner))["virtual_s"] == 3.0  # a quarter of it was not made


async def test_a_cancel_that_was_lost_with_its_worker_costs_nothing(
    make_bench: MakeBench, manual_clock: ManualClock
) -> None:
    life = await live(make_bench, manual_clock)
    for action in ("start", "cancel", "pass_lease", "reap"):
        await life.do(action)
    assert (await life.bench.row(life.id))["state"] == "cancelled"
    assert (await life.bench.account_row(life.owner))["virtual_s"] == 0.0


async def test_an_attempt_that_does_not_count_is_taken_back(make_bench: MakeBench, manual_clock: ManualClock) -> None:
    life = await live(make_bench, manual_clock)
    await life.do("start")
    await life.do("give_back")
    assert (await life.bench.row(life.id))["attempt"] == 0
    await life.do("start")
    await life.do("requeue")
    assert (await life.bench.row(life.id))["attempt"] == 1


async def test_one_that_was_given_back_is_held_by_nobody(make_bench: MakeBench, manual_clock: ManualClock) -> None:
    """The same worker takes it again, for the same attempt: what it was about to write before counts no more."""
    life = await live(make_bench, manual_clock)
    for action in ("start", "give_back", "start"):
        await life.do(action)
    before = await life.bench.row(life.id)
    assert before["attempt"] == 1
    for action in ("old_succeed", "old_fail", "old_requeue", "old_cancelled"):
        assert await life.do(action) is None
    assert await life.bench.row(life.id) == before
    assert len(await thrown_away(life)) == 2


@pytest.mark.parametrize("again", ["succeed", "fail", "requeue"])
async def test_a_result_that_is_written_twice_stands_once(
    make_bench: MakeBench, manual_clock: ManualClock, again: str
) -> None:
    """As by a worker that was not told that its commit went through: its audio is not taken for a stranger's."""
    life = await live(make_bench, manual_clock)
    await life.do("start")
    await life.do(again)
    before = await life.bench.row(life.id)
    assert await life.do(again) is None
    await check_whole(life, await life.bench.row(life.id))
    assert await life.bench.row(life.id) == before
    assert await thrown_away(life) == set()


async def test_audio_that_came_too_late_is_thrown_away(make_bench: MakeBench, manual_clock: ManualClock) -> None:
    life = await live(make_bench, manual_clock)
    await life.do("start")
    await life.do("cancel")
    change = await life.do("succeed")
    assert isinstance(change, Change)
    assert change.state == State.CANCELLED
    keys = [each["object_key"] for each in await life.bench.outbox("object.delete")]
    assert keys == [f"{track['id']}-{life.leases[0].fence}" for track in await life.bench.track_rows(life.id)]


async def test_the_wait_in_the_queue_is_that_before_the_first_attempt(
    make_bench: MakeBench, manual_clock: ManualClock
) -> None:
    life = await live(make_bench, manual_clock)
    manual_clock.forward(3.0)
    await life.do("start")
    await life.do("requeue")
    manual_clock.forward(5.0)
    await life.do("start")
    row = await life.bench.row(life.id)
    assert row["queue_wait_s"] == pytest.approx(3.0)
    assert row["started_at"] == manual_clock()


async def test_who_comes_back_from_idle_has_saved_nothing_up(make_bench: MakeBench, manual_clock: ManualClock) -> None:
    bench = make_bench(manual_clock)
    busy, idle = await bench.account(virtual_s=100.0), await bench.account(virtual_s=3.0)
    await bench.create(busy)
    await bench.create(idle)
    assert (await bench.account_row(idle))["virtual_s"] == 100.0


async def test_of_equal_clocks_who_came_first_is_first(make_bench: MakeBench, manual_clock: ManualClock) -> None:
    """Whatever they are called, and though those before have been served meanwhile."""
    bench = make_bench(manual_clock)
    owners = [await bench.account() for _ in range(8)]
    owners.sort(key=lambda owner: owner.account_id, reverse=True)
    made = []
    for owner in owners[:4]:
        made.append(await bench.create(owner))
        manual_clock.forward(0.5)
    order = [lease.generation_id for lease in await take(bench, 2)]
    for owner in owners[4:]:
        made.append(await bench.create(owner))
        manual_clock.forward(0.5)
    order += [lease.generation_id for lease in await take(bench, 6)]
    assert order == [view.id for view in made]


async def test_how_long_other_tiers_wait_sets_nobody_behind(make_bench: MakeBench, manual_clock: ManualClock) -> None:
    bench = make_bench(manual_clock)
    other = await bench.account("enterprise")
    first, newcomer = [await bench.account("free", virtual_s=5.0) for _ in range(2)]
    await bench.create(other)
    manual_clock.forward(1000.0)
    await bench.create(first)
    manual_clock.forward(2.0)
    await bench.create(newcomer)
    behind = [(await bench.account_row(each))["virtual_s"] for each in (first, newcomer)]
    assert behind == [5.0, pytest.approx(5.0 + 2 * LATER, rel=0, abs=LATER / 10)]


async def take(bench: Bench, tracks: int) -> list[Lease]:
    shares, slots = Shares(bench.limits.tiers.rules), Slots(tracks, tracks)
    async with bench.db.begin() as conn:
        return await acquire(conn, "wrk_1", "tiny", slots, shares, bench.clock(), lease_s=10.0)


async def test_where_nobody_waits_the_clock_starts_where_the_last_one_ended(
    make_bench: MakeBench, manual_clock: ManualClock
) -> None:
    bench = make_bench(manual_clock)
    await bench.account(virtual_s=70.0)
    await bench.account("free", virtual_s=900.0)
    newcomer = await bench.account()
    await bench.create(newcomer)
    assert (await bench.account_row(newcomer))["virtual_s"] == 70.0


async def test_a_clock_ahead_of_the_others_is_not_set_back(make_bench: MakeBench, manual_clock: ManualClock) -> None:
    bench = make_bench(manual_clock)
    other, ahead = await bench.account(virtual_s=1.0), await bench.account(virtual_s=9.0)
    await bench.create(other)
    await bench.create(ahead)
    assert (await bench.account_row(ahead))["virtual_s"] == 9.0
