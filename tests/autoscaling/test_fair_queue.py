"""The queue in memory against the pure choice it must agree with, and what tenants are promised of each other."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaling.fair_queue import FairQueue
from autoscaling.fairness import Shares, Slots, Tenant, TierRule, Waiting, choose

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
RULES = {
    "free": TierRule(0.1, 1.0, 1, leaves=0.25),
    "pro": TierRule(0.3, 4.0, 4),
    "enterprise": TierRule(0.6, 16.0, 32),
}
ROOMY = Slots(64, 64)
TIERS = sorted(RULES)


def waiting(index: int, audio_s: float = 10.0, *, tracks: int = 1, stream: bool = False, due_s: float = 0.0) -> Waiting:
    return Waiting(f"{index:04d}", tracks, audio_s, "stream" if stream else "async", EPOCH + timedelta(seconds=due_s))


class Plain:
    """The same queue as lists, asked by ``choose``."""

    def __init__(self) -> None:
        self.tenants: dict[str, Tenant] = {}
        self.shares = Shares(RULES)
        self.pushed = 0
        self.since: dict[str, int] = {}
        self.highest_s = dict.fromkeys(RULES, 0.0)

    def push(self, account: str, tier: str, request: Waiting) -> None:
        self.pushed += 1
        tenant = self.tenants.get(account) or Tenant(account, tier, 0.0, 0, ())
        if not tenant.waiting:
            tenant = replace(tenant, virtual_s=max(tenant.virtual_s, self.floor_s(tier)))
            self.since[account] = self.pushed
        self.tenants[account] = replace(tenant, waiting=(*tenant.waiting, request))

    def floor_s(self, tier: str) -> float:
        peers = [each for each in self.able() if each.tier == tier]
        if not peers:
            return self.highest_s[tier]
        first = min(peers, key=lambda each: (each.virtual_s, each.account_id))
        return first.virtual_s + 1e-6 * (self.pushed - self.since[first.account_id])

    def able(self) -> list[Tenant]:
        return [each for each in self.tenants.values() if each.waiting and each.running < RULES[each.tier].running]

    def pop(self, slots: Slots) -> tuple[str, Waiting] | None:
        able = self.able()
        choice = choose(able, self.shares, slots)
        if choice is None:
            return None
        tenant, request = choice
        self.shares.served(tenant.tier, request.audio_s, {each.tier for each in able})
        clock_s = tenant.virtual_s + RULES[tenant.tier].charge_s(request.audio_s)
        self.highest_s[tenant.tier] = max(self.highest_s[tenant.tier], clock_s)
        self.tenants[tenant.account_id] = replace(
            tenant,
            virtual_s=clock_s,
            running=tenant.running + 1,
            waiting=tuple(each for each in tenant.waiting if each != request),
        )
        return tenant.account_id, request

    def finished(self, account: str) -> None:
        self.tenants[account] = replace(self.tenants[account], running=self.tenants[account].running - 1)

    def refund(self, account: str, audio_s: float) -> None:
        tenant = self.tenants[account]
        refund_s = RULES[tenant.tier].charge_s(audio_s)
        self.tenants[account] = replace(tenant, virtual_s=tenant.virtual_s - refund_s)

    def cancel(self, account: str, request: Waiting) -> None:
        tenant = self.tenants[account]
        self.tenants[account] = replace(tenant, waiting=tuple(each for each in tenant.waiting if each != request))


operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("push"),
            st.integers(0, 8),
            st.floats(1, 30),
            st.integers(1, 3),
            st.booleans(),
            st.integers(0, 100),
        ),
        st.tuples(st.just("pop"), st.integers(0, 12), st.integers(0, 3)),
        st.tuples(st.just("finish"), st.integers(0, 99), st.floats(0, 1)),
        st.tuples(st.just("cancel"), st.integers(0, 99)),
    ),
    max_size=80,
)


@settings(max_examples=200, deadline=None)
@given(operations)
def test_every_decision_is_that_of_the_pure_choice(history: list[Any]) -> None:
    queue, plain = FairQueue(RULES), Plain()
    queued: list[tuple[str, Waiting]] = []
    running: list[tuple[str, Waiting]] = []
    for index, (what, *args) in enumerate(history):
        if what == "push":
            number, audio_s, tracks, stream, due_s = args
            account, tier = f"account-{number}", TIERS[number % 3]
            request = waiting(index, audio_s, tracks=tracks, stream=bool(stream), due_s=due_s)
            queue.push(account, tier, request)
            plain.push(account, tier, request)
            queued.append((account, request))
        elif what == "pop":
            slots = Slots(12, *args)
            chosen = queue.pop(slots)
            assert chosen == plain.pop(slots)
            if chosen:
                queued.remove(chosen)
                running.append(chosen)
        elif what == "finish" and running:
            account, request = running.pop(args[0] % len(running))
            for each in (queue, plain):
                each.finished(account)
                each.refund(account, args[1] * request.audio_s)
        elif what == "cancel" and queued:
            gone = queued.pop(args[0] % len(queued))
            queue.cancel(*gone)
            plain.cancel(*gone)
        assert len(queue) == len(queued)
        expected = sum(request.audio_s for account, request in queued if plain.tenants[account].tier == "pro")
        assert queue.waiting_audio_s("pro") == pytest.approx(expected, abs=1e-6)


def test_an_unknown_tier_is_refused() -> None:
    with pytest.raises(KeyError, match="gold"):
        FairQueue(RULES).push("a", "gold", waiting(1))


def test_what_was_not_made_is_given_back() -> None:
    queue = FairQueue(RULES)
    for index, account in enumerate(["a", "a", "b", "b"]):
        queue.push(account, "pro", waiting(index))
    assert [queue.pop(ROOMY), queue.pop(ROOMY)] == [("a", waiting(0)), ("b", waiting(2))]
    queue.refund("b", 10.0)
    assert queue.pop(ROOMY) == ("b", waiting(3))


def test_a_tier_that_must_leave_slots_free_waits_while_those_above_go_on() -> None:
    queue = FairQueue(RULES)
    queue.push("f", "free", waiting(1))
    assert queue.pop(Slots(8, 2)) is None
    queue.push("e", "enterprise", waiting(2))
    assert queue.pop(Slots(8, 2)) == ("e", waiting(2))
    assert queue.pop(Slots(8, 3)) == ("f", waiting(1))


def test_a_wide_one_of_such_a_tier_leaves_them_free_as_well_and_does_not_hold_up_those_above() -> None:
    queue = FairQueue(RULES)
    queue.push("f", "free", waiting(1, tracks=2))
    queue.push("e", "enterprise", waiting(2, 1.0))
    queue.shares.served("enterprise", 5.0, {"free", "enterprise"})  # free is owed half a second
    assert queue.pop(Slots(8, 3)) == ("e", waiting(2, 1.0))
    assert queue.pop(Slots(8, 3)) is None
    assert queue.pop(Slots(8, 4)) == ("f", waiting(1, tracks=2))


def test_places_at_hand_are_for_tiers_that_leave_nothing() -> None:
    """Ten places of which eight play: two slots are left free, and nobody of the tier stands before who comes next."""
    queue = FairQueue(RULES)
    queue.push("f", "free", waiting(1))
    assert queue.pop(Slots(10, 4, at_hand=2)) is None
    assert queue.pop(Slots(10, 5, at_hand=2)) == ("f", waiting(1))


def test_who_is_owed_as_much_as_the_slots_it_leaves_would_hold_takes_one_of_them() -> None:
    """Otherwise a tier above it that is always busy would keep it out for ever, whatever share it was guaranteed."""
    queue = FairQueue(RULES)
    queue.push("f", "free", waiting(0, 10.0))
    turns = []
    for index in range(1, 80):
        queue.push("e", "enterprise", waiting(index, 10.0))
        chosen = queue.pop(Slots(8, 1))
        assert chosen is not None
        queue.finished(chosen[0])
        turns.append(chosen[0])
    assert turns.index("f") == 30  # a second for each; two slots are left free, so it is owed the work of three


def test_of_equal_clocks_who_came_first_is_first() -> None:
    """Whatever they are called, and however many come after: otherwise some would be passed over again and again."""
    queue = FairQueue(RULES)
    for index, account in enumerate(["zoe", "mia", "ada"]):
        queue.push(account, "pro", waiting(index))
    order = []
    for index in range(10, 20):
        chosen = queue.pop(ROOMY)
        assert chosen is not None
        order.append(chosen[0])
        queue.push(f"a{index}", "pro", waiting(index))
    assert order == ["zoe", "mia", "ada", *(f"a{index}" for index in range(10, 17))]


def test_who_has_one_running_and_comes_back_has_saved_nothing_up() -> None:
    queue = FairQueue(RULES)
    queue.push("slow", "pro", waiting(0, 1.0))
    assert queue.pop(ROOMY) == ("slow", waiting(0, 1.0))
    for index in range(1, 11):
        queue.push("busy", "pro", waiting(index, 20.0))
        assert queue.pop(ROOMY) == ("busy", waiting(index, 20.0))
        queue.finished("busy")
    queue.push("busy", "pro", waiting(11, 20.0))
    for index in range(20, 23):
        queue.push("slow", "pro", waiting(index, 20.0))
    order = [chosen[0] for _ in range(3) if (chosen := queue.pop(ROOMY))]
    assert order == ["busy", "slow", "slow"]


# ------------------------------------------------------------------------- fairness, saturated
def serve(queue: FairQueue, demand: dict[str, tuple[str, float]], rounds: int) -> dict[str, float]:
    """One slot, everybody always has work waiting: audio-seconds that each got.

    Args:
        demand: account → its tier and the seconds of each request.
    """
    got = dict.fromkeys(demand, 0.0)
    for index, (account, (tier, audio_s)) in enumerate(demand.items()):
        for more in range(2):
            queue.push(account, tier, waiting(2 * index + more, audio_s))
    for index in range(rounds):
        chosen = queue.pop(Slots(1, 1))
        assert chosen is not None, "work waits and nobody is served"
        account, request = chosen
        got[account] += request.audio_s
        queue.finished(account)
        tier, audio_s = demand[account]
        queue.push(account, tier, waiting(10_000 + index, audio_s))
    return got


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(2, 30), min_size=2, max_size=12))
def test_backlogged_accounts_of_a_tier_never_drift_apart_by_more_than_two_requests(lengths: list[float]) -> None:
    """The bound of the virtual token counter (Sheng et al., OSDI 2024): twice the largest request."""
    demand = {f"a{index}": ("pro", audio_s) for index, audio_s in enumerate(lengths)}
    got = serve(FairQueue(RULES), demand, 300)
    assert max(got.values()) - min(got.values()) <= 2 * max(lengths) + 1e-6


def test_many_accounts_of_all_lengths_get_the_same() -> None:
    demand = {f"a{index}": ("pro", 2.0 + index % 28) for index in range(50)}
    got = serve(FairQueue(RULES), demand, 20_000)
    mean, square = statistics.fmean(got.values()), statistics.fmean(each**2 for each in got.values())
    assert mean**2 / square >= 0.98  # Jain's index


def test_backlogged_tiers_get_their_shares() -> None:
    demand = {f"{tier}-{index}": (tier, 5.0 + index) for tier in RULES for index in range(6)}
    got = serve(FairQueue(RULES), demand, 3000)
    total = sum(got.values())
    for tier, rule in RULES.items():
        share = sum(audio_s for account, audio_s in got.items() if account.startswith(tier)) / total
        assert share == pytest.approx(rule.share, rel=0.05)


def test_a_listener_of_the_largest_tier_is_next_but_for_a_turn_that_another_is_owed() -> None:
    """While pro and free have always work waiting: nine of ten are next when they come, and the others keep theirs."""
    queue, numbers = FairQueue(RULES), itertools.count()
    for tier in ("free", "pro"):
        for index in range(40):
            queue.push(f"{tier}-{index}", tier, waiting(next(numbers)))
    waits: list[int] = []
    served = dict.fromkeys(RULES, 0)
    came = 0
    for turn in range(600):
        if turn % 3 == 0:
            queue.push(f"enterprise-{turn}", "enterprise", waiting(next(numbers), stream=True))
            came = turn
        chosen = queue.pop(Slots(1, 1))
        assert chosen is not None
        tier = chosen[0].split("-")[0]
        queue.finished(chosen[0])
        served[tier] += 1
        if tier == "enterprise":
            waits.append(turn - came)
        else:
            queue.push(chosen[0], tier, waiting(next(numbers)))
    assert max(waits) <= 1
    assert waits.count(0) >= 0.9 * len(waits)
    assert served["free"] >= 0.1 * 600 - 3
    assert served["pro"] >= 0.3 * 600
