"""What SQL hands to the fair queue, and leases while they last."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Select, func, select, text, update
from sqlalchemy.dialects import sqlite

from api.auth.principal import Principal
from api.errors import ApiError
from api.generations import leases, states
from api.generations.books import _STANDING
from api.generations.leases import acquire, extend, may_lease, overdue
from api.generations.turns import _NEXT_OF_TIER, first_tenants
from api.generations.view import GenerationView, State
from api.store.schema import accounts, generations
from autoscaling.fairness import Places, Shares, Slots, Tenant, Waiting, choose
from tests.api.generations.conftest import PATIENCE_S, Bench, MakeBench, ManualClock, eventually

ROOMY = Slots(1000, 1000)


@pytest.fixture
def still(make_bench: MakeBench, manual_clock: ManualClock) -> Bench:
    return make_bench(manual_clock)


async def take(bench: Bench, model_id: str = "tiny", slots: Slots = ROOMY, owner: str = "wrk_1") -> list[str]:
    """Ids in the order in which they are leased."""
    shares = Shares(bench.limits.tiers.rules)
    async with bench.db.begin() as conn:
        taken = await acquire(conn, owner, model_id, slots, shares, bench.clock(), lease_s=10.0)
    return [lease.generation_id for lease in taken]


async def set_row(bench: Bench, generation_id: str, **values: Any) -> None:
    async with bench.db.begin() as conn:
        await conn.execute(update(generations).where(generations.c.id == generation_id).values(**values))


async def test_nothing_waits(still: Bench) -> None:
    assert await take(still) == []


async def test_only_the_models_own(still: Bench) -> None:
    owner = await still.account()
    small = await still.create(owner, model_id="small")
    tiny = await still.create(owner)
    assert await take(still) == [tiny.id]
    assert await take(still, "small") == [small.id]


async def test_one_that_waits_for_its_next_attempt_is_passed_over(still: Bench, manual_clock: ManualClock) -> None:
    made = await still.create(await still.account())
    await set_row(still, made.id, available_at=manual_clock() + timedelta(seconds=2))
    assert await take(still) == []
    manual_clock.forward(2.0)
    assert await take(still) == [made.id]


async def test_one_that_has_expired_is_passed_over(still: Bench) -> None:
    owner = await still.account()
    made, next_one = await still.create(owner), await still.create(owner)
    await set_row(still, made.id, expires_at=still.clock())
    assert await take(still) == [next_one.id]


async def test_slots_are_filled_and_no_more(still: Bench) -> None:
    owner = await still.account("enterprise")
    made = [await still.create(owner, num_tracks=2) for _ in range(4)]
    assert len(await take(still, slots=Slots(8, 5))) == 2
    assert len(await take(still, slots=Slots(8, 1))) == 0
    assert len(await take(still, slots=Slots(8, 8))) == len(made) - 2


async def test_a_tier_leaves_slots_of_the_ready_replicas_free_for_those_above(still: Bench) -> None:
    """Two replicas that play eight and have two at hand: of 16 that play, free leaves one, and nothing at hand."""
    for _ in range(20):
        await still.create(await still.account("free"))
    two = Places(10, at_hand=2)
    assert len(await take(still, slots=two.slots(2, 40, taken=0))) == 15
    assert await take(still, slots=two.slots(2, 40, taken=15)) == []
    above = await still.create(await still.account("enterprise"))
    assert await take(still, slots=two.slots(2, 40, taken=15)) == [above.id]
    assert len(await take(still, slots=two.slots(3, 40, taken=16))) == 5  # a third replica: 24 play, 2 are left free


async def test_a_lease_is_charged_with_the_tiers_weight(still: Bench) -> None:
    owner = await still.account("pro")
    await still.create(owner, num_tracks=2, duration_s=8.0)
    await take(still)
    assert (await still.account_row(owner))["virtual_s"] == 2 * 8.0 / 4.0


@pytest.mark.parametrize("seed", range(3))
async def test_the_order_is_that_of_the_whole_queue(still: Bench, manual_clock: ManualClock, seed: int) -> None:
    """SQL looks only at the heads; the pure queue, given everything, comes to the same order."""
    chance = random.Random(seed)
    owners = [
        await still.account(tier, virtual_s=chance.uniform(0, 50))
        for tier in ("free", "pro", "enterprise")
        for _ in range(3)
    ]
    made: list[tuple[Principal, GenerationView]] = []
    for _ in range(30):
        owner = chance.choice(owners)
        manual_clock.forward(chance.uniform(0.1, 3.0))
        mode = "stream" if chance.random() < 0.2 else "async"
        with suppress(ApiError):  # this account has as many as its tier allows
            made.append((owner, await still.create(owner, duration_s=chance.uniform(0.1, 30.0), mode=mode)))
    clocks = {owner.account_id: (await still.account_row(owner))["virtual_s"] for owner in owners}
    assert await take(still) == whole_order(still, made, clocks)[: leases.MAX_AT_ONCE]


def whole_order(bench: Bench, made: list[tuple[Principal, GenerationView]], clocks: dict[str, float]) -> list[str]:
    shares = Shares(bench.limits.tiers.rules)
    lines: dict[str, list[Waiting]] = {}
    tiers = {owner.account_id: owner.tier for owner, _ in made}
    for owner, view in made:
        waiting = Waiting(view.id, 1, view.duration_s, view.mode, view.deadline_at)
        lines.setdefault(owner.account_id, []).append(waiting)
    running = dict.fromkeys(lines, 0)
    order: list[str] = []
    while True:
        tenants = [Tenant(name, tiers[name], clocks[name], running[name], line) for name, line in lines.items() if line]
        choice = choose(tenants, shares, ROOMY)
        if choice is None:
            return order
        who, what = choice
        eligible = {each.tier for each in tenants if each.running < shares.rules[each.tier].running}
        shares.served(who.tier, what.audio_s, eligible)
        clocks[who.account_id] += shares.rules[who.tier].charge_s(what.audio_s)
        running[who.account_id] += 1
        lines[who.account_id].remove(what)
        order.append(what.generation_id)


async def test_an_account_that_waits_without_a_line_does_no_harm(still: Bench) -> None:
    """Such as one whose generations were removed with its data."""
    ghost, owner = await still.account(virtual_s=0.0), await still.account(virtual_s=5.0)
    async with still.db.begin() as conn:
        await conn.execute(update(accounts).where(accounts.c.id == ghost.account_id).values(waiting=True))
    made = await still.create(owner)
    assert await take(still) == [made.id]


async def plan_of(bench: Bench, asked: Select[Any]) -> list[str]:
    """The steps that SQLite would take."""
    if bench.db.dialect != "sqlite":
        pytest.skip("the plan of an empty PostgreSQL table says nothing")
    sql = str(asked.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
    async with bench.db.read() as conn:
        steps = await conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}")
        return [step["detail"] for step in steps.mappings()]


async def test_the_queue_is_read_by_index_only(still: Bench) -> None:
    plan = await plan_of(still, _NEXT_OF_TIER.params(tier="free", model_id="tiny", running_limit=1, now=still.clock()))
    assert any("ix_accounts_queue (tier=? AND waiting=?)" in step for step in plan)
    assert any("(account_id=? AND state=? AND model_id=? AND mode=?)" in step for step in plan)
    assert not [step for step in plan if step.startswith(("SCAN generations", "SCAN accounts"))]


async def test_who_begins_to_wait_costs_the_same_however_many_accounts_and_ended_ones_there_are(still: Bench) -> None:
    plan = await plan_of(still, _STANDING.params(account_id="acc_1"))
    looked_at = [step for step in plan if step.startswith(("SEARCH", "SCAN"))]
    assert len(looked_at) == 4, plan
    assert sum("ix_accounts_queue (tier=? AND waiting=?)" in step for step in looked_at) == 2
    assert any("ix_generations_account (account_id=? AND state=?)" in step for step in looked_at)
    assert any("accounts" in step and "(id=?)" in step for step in looked_at)


async def test_first_tenants_are_one_of_each_tier(still: Bench) -> None:
    for tier in ("free", "pro", "enterprise"):
        for _ in range(2):
            await still.create(await still.account(tier))
    async with still.db.read() as conn:
        found = await first_tenants(conn, "tiny", still.limits.tiers.rules, still.clock())
    assert [each.tier for each in found] == ["free", "pro", "enterprise"]


async def test_two_workers_at_once_take_no_more_than_the_tier_allows(still: Bench) -> None:
    """Of different models, so that neither takes what the other wants: both have seen that nothing runs yet."""
    if still.db.dialect == "sqlite":
        pytest.skip("a write transaction is alone from its beginning")
    owner = await still.account("free")
    made = [await still.create(owner, model_id=name) for name in ("tiny", "small")]
    async with still.db.begin() as conn:
        rules = still.limits.tiers.rules
        first = await acquire(conn, "wrk_1", "tiny", ROOMY, Shares(rules), still.clock(), lease_s=10.0)
        second = asyncio.create_task(take(still, "small"))
        await eventually(lambda: waits_for_a_lock(still))
    assert [lease.generation_id for lease in first] == [made[0].id]
    assert await second == []


async def waits_for_a_lock(bench: Bench) -> bool:
    async with bench.db.read() as conn:
        here = "datname = current_database() AND wait_event_type = 'Lock'"
        return bool((await conn.execute(text(f"SELECT count(*) FROM pg_stat_activity WHERE {here}"))).scalar_one())


# ----------------------------------------------------------------------------------------- several workers
async def test_what_other_workers_hold_is_taken_from_the_slots(still: Bench) -> None:
    owner = await still.account("enterprise")
    for num_tracks in (2, 1, 1, 1, 1):
        await still.create(owner, num_tracks=num_tracks)
    await still.create(owner, model_id="small")
    assert len(await take(still, slots=Slots(5, 2), owner="wrk_1")) == 1
    assert len(await take(still, "small", Slots(1, 1), owner="wrk_1")) == 1  # another model's places are others
    assert len(await take(still, slots=Slots(5, 5), owner="wrk_2")) == 3
    assert await take(still, slots=Slots(5, 2), owner="wrk_2") == []
    assert await take(still, slots=Slots(5, 3), owner="wrk_1") == []


async def test_slots_that_a_tier_leaves_free_hold_over_all_workers(still: Bench) -> None:
    """Of 16 that play free leaves one, whoever leases, and of 4 at hand all."""
    for _ in range(20):
        await still.create(await still.account("free"))
    two = Places(10, at_hand=2)
    assert len(await take(still, slots=replace(two.slots(2, 40, taken=0), free=12), owner="wrk_1")) == 7
    assert len(await take(still, slots=two.slots(2, 40, taken=0), owner="wrk_2")) == 8
    assert await take(still, slots=two.slots(2, 40, taken=7), owner="wrk_1") == []
    above = await still.create(await still.account("enterprise"))
    assert await take(still, slots=two.slots(2, 40, taken=7), owner="wrk_1") == [above.id]


async def test_the_places_of_a_worker_that_died_come_back_with_its_leases_end(
    still: Bench, manual_clock: ManualClock
) -> None:
    owner = await still.account("enterprise")
    for _ in range(6):
        await still.create(owner)
    three = Slots(3, 3)
    assert len(await take(still, slots=three, owner="wrk_dead")) == 3
    manual_clock.forward(9.9)
    assert await take(still, slots=three, owner="wrk_2") == []
    manual_clock.forward(0.1)
    assert len(await take(still, slots=three, owner="wrk_2")) == 3


async def test_it_is_worth_a_look_only_if_something_waits_and_the_others_leave_room(still: Bench) -> None:
    async def worth(owner: str, slots: Slots) -> bool:
        async with still.db.read() as conn:
            return await may_lease(conn, owner, "tiny", slots, still.clock())

    assert not await worth("wrk_1", Slots(2, 2))
    owner = await still.account("enterprise")
    for _ in range(3):
        await still.create(owner)
    assert await worth("wrk_1", Slots(2, 2))
    await take(still, slots=Slots(2, 2), owner="wrk_1")
    assert not await worth("wrk_2", Slots(2, 2))
    assert await worth("wrk_2", Slots(3, 3))
    assert await worth("wrk_1", Slots(3, 1))  # it knows of its own


async def test_workers_that_lease_at_once_never_hold_more_than_there_are_places(still: Bench) -> None:
    """Each tries again and again, and gives back what it has made."""
    owner = await still.account("enterprise")
    waiting = {(await still.create(owner)).id for _ in range(12)}
    most = 0

    async def work(name: str) -> None:
        nonlocal most
        held: dict[str, states.Lease] = {}
        while waiting:
            async with still.db.begin() as conn:
                slots, shares = Slots(4, 4 - len(held)), Shares(still.limits.tiers.rules)
                for lease in await acquire(conn, name, "tiny", slots, shares, still.clock(), lease_s=10.0):
                    held[lease.generation_id] = lease
            async with still.db.read() as conn:
                running = generations.c.state == State.RUNNING
                most = max(most, await conn.scalar(select(func.count()).where(running)) or 0)
            for generation_id in list(held)[:1]:
                async with still.db.begin() as conn:
                    await states.fail(conn, held.pop(generation_id), {}, still.clock())
                waiting.discard(generation_id)

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        for name in ("wrk_1", "wrk_2", "wrk_3"):
            group.create_task(work(name))
    assert most == 4


# ---------------------------------------------------------------------------------------- while it lasts
async def test_only_ones_own_leases_are_extended(still: Bench, manual_clock: ManualClock) -> None:
    owner = await still.account()
    mine, others, waiting = [await still.create(owner) for _ in range(3)]
    async with still.db.begin() as conn:
        for view, name in ((mine, "wrk_1"), (others, "wrk_2")):
            await states.start(conn, view.id, owner.account_id, name, manual_clock(), charge_s=1.0)
        await states.request_cancel(conn, mine.id, owner.account_id, manual_clock())
    now = manual_clock.forward(5.0)
    async with still.db.begin() as conn:
        held = await extend(conn, "wrk_1", [mine.id, others.id, waiting.id], now, lease_s=10.0)
    assert [(each.generation_id, each.version, each.state) for each in held] == [(mine.id, 3, State.CANCELLING)]
    assert (await still.row(mine.id))["lease_expires_at"] == now + timedelta(seconds=10)
    assert (await still.row(others.id))["lease_expires_at"] == now + timedelta(seconds=5)


async def test_what_is_overdue(still: Bench, manual_clock: ManualClock) -> None:
    owner = await still.account()
    lost, fine, late, early = [await still.create(owner) for _ in range(4)]
    async with still.db.begin() as conn:
        for view, lease_s in ((lost, 1.0), (fine, 100.0)):
            await states.start(conn, view.id, owner.account_id, "wrk_1", manual_clock(), charge_s=1.0, lease_s=lease_s)
    now = manual_clock.forward(1.0)
    await set_row(still, late.id, expires_at=now)
    async with still.db.read() as conn:
        found = {each.generation_id: each for each in await overdue(conn, now)}
    assert set(found) == {lost.id, late.id}
    assert early.id not in found
    assert replace(found[lost.id], charge_audio_s=0.0).attempt == 1
    assert found[lost.id].charge_audio_s == 1.0
