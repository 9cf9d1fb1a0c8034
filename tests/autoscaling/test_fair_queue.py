"""The queue in memory against the pure choice it must agree with, and what tenants are promised of each other."""

from __future__ import annotations

import statistics
from dataclasses import replace
from datetime import UTC, datetime, timedelta

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

    def push(self, account: str, tier: str, request: Waiting) -> None:
        tenant = self.tenants.get(account) or Tenant(account, tier, 0.0, 0, ())
        if not tenant.waiting and not tenant.running:
            able = [each for each in self.able() if each.tier == tier]
            floor = min((each.virtual_s for each in able), default=0.0)
            tenant = replace(tenant, virtual_s=max(tenant.virtual_s, floor))
        self.tenants[account] = replace(tenant, waiting=(*tenant.waiting, request))

    def able(self) -> list[Tenant]:
        return [each for each in self.tenants.values() if each.waiting and each.running < RULES[each.tier].running]

    def pop(self, slots: Slots) -> tuple[str, Waiting] | None:
        able = self.able()
        choice = choose(able, self.shares, slots)
        if choice is None:
            return None
        tenant, request = choice
        self.shares.served(tenant.tier, request.audio_s, {each.tier for each in able})
        self.tenants[tenant.account_id] = replace(
            tenant,
            virtual_s=tenant.virtual_s + RULES[tenant.tier].charge_s(request.audio_s),
            running=tenant.running + 1,
            waiting=tuple(each for each in tenant.waiting if each != request),
        )
        return tenant.account_id, request

    def finished(self, account: str) -> None:
        self.tenants[account] = replace(self.tenants[account], running=self.tenants[account].running - 1)

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
        st.tuples(st.just("pop"), st.integers(0, 12)),
        st.tuples(st.just("finish"), st.integers(0, 99)),
        st.tuples(st.just("cancel"), st.integers(0, 99)),
    ),
    max_size=80,
)


@settings(max_examples=200, deadline=None)
@given(operations)
def test_every_decision_is_that_of_the_pure_choice(history: list[tuple[str, int]]) -> None:
    queue, plain = FairQueue(RULES), Plain()
    queued: list[tuple[str, Waiting]] = []
    running: list[str] = []
    for index, (what, *args) in enumerate(history):
        if what == "push":
            number, audio_s, tracks, stream, due_s = args
            account, tier = f"account-{number}", TIERS[number % 3]
            request = waiting(index, audio_s, tracks=tracks, stream=bool(stream), due_s=due_s)
            queue.push(account, tier, request)
            plain.push(account, tier, request)
            queued.append((account, request))
        elif what == "pop":
            slots = Slots(12, args[0])
            chosen = queue.pop(slots)
            assert chosen == plain.pop(slots)
            if chosen:
                queued.remove(chosen)
                running.append(chosen[0])
        elif what == "finish" and running:
            account = running.pop(args[0] % len(running))
            queue.finished(account)
            plain.finished(account)
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
