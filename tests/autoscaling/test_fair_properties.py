"""What tenants are promised of each other, for crowds that hypothesis draws: the measures of ``benchmarks.fairness``.

That the measures can fail is shown by a queue without fairness, first come, first served, which breaks each of them.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaling.fair_queue import FairQueue
from autoscaling.fairness import Slots, TierRule, Waiting
from benchmarks import fairness
from benchmarks.fairness import (
    RULES,
    UNLIMITED,
    Demand,
    Served,
    decision_s,
    first_audio_p95_s,
    jain,
    saturated,
    share_error,
)

SLOTS = st.integers(1, 24)


class FirstCome(FairQueue):
    """No fairness and no limits: whoever asked first."""

    def __init__(self, rules: Mapping[str, TierRule]) -> None:
        super().__init__(rules)
        self.line: deque[tuple[str, Waiting]] = deque()

    def __len__(self) -> int:
        return len(self.line)

    def push(self, account: str, tier: str, request: Waiting) -> None:
        self.line.append((account, request))

    def pop(self, slots: Slots) -> tuple[str, Waiting] | None:
        return self.line.popleft() if slots.fit(self.line[0][1].num_tracks) else None

    def finished(self, account: str) -> None: ...


@st.composite
def accounts(draw: st.DrawFn, longest_s: float = 60.0) -> list[Demand]:
    """Of one tier."""
    several = st.lists(st.floats(1, longest_s), min_size=1, max_size=4)
    return [
        Demand(f"account-{index}", "pro", draw(several), draw(st.integers(1, 4)))
        for index in range(draw(st.integers(2, 8)))
    ]


def widest_gap(served: Served, demands: list[Demand]) -> float:
    """In generations of the longest."""
    longest_s = max(max(each.audio_s) * each.num_tracks for each in demands)
    pairs = itertools.combinations(demands, 2)
    return max(served.gap_s(one.account, other.account) for one, other in pairs) / longest_s


# ------------------------------------------------------------------------------------- accounts of a tier
@given(accounts(), SLOTS)
@settings(max_examples=60, deadline=None)
def test_backlogged_accounts_never_get_more_than_two_generations_more_than_another(
    demands: list[Demand], slots: int
) -> None:
    """Between any two instants, whatever slots there are: the bound of the virtual token counter, of which ours is a
    case in which all is charged when it is admitted (Sheng et al., OSDI 2024, theorem 4.3)."""
    assert widest_gap(saturated(demands, slots, 200, UNLIMITED), demands) <= 2 + 1e-6


@given(accounts(longest_s=8.0), SLOTS)
@settings(max_examples=25, deadline=None)
def test_backlogged_accounts_get_the_same(demands: list[Demand], slots: int) -> None:
    """In the long run, whatever lengths each asks for."""
    served = saturated(demands, slots, 8000, UNLIMITED)
    assert jain(served.totals({each.account: each.account for each in demands}).values()) >= 0.98


# ------------------------------------------------------------------------------------------------- tiers
@st.composite
def tiers(draw: st.DrawFn, slots: int) -> list[Demand]:
    """All backlogged, with enough accounts in each to take all slots within their limits."""
    lengths = st.lists(st.floats(2, 30), min_size=3, max_size=3)
    return [
        Demand(f"{tier}-{index}", tier, draw(lengths))
        for tier, rule in RULES.items()
        for index in range(2 + -(-slots // rule.running))
    ]


@given(st.data(), st.sampled_from([1, 2, 5, 8, 16, 24]))
@settings(max_examples=10, deadline=None)
def test_backlogged_tiers_get_their_shares_and_no_slot_is_idle(data: st.DataObject, slots: int) -> None:
    """Though some must leave slots free for those above them."""
    demands = data.draw(tiers(slots))
    served = saturated(demands, slots, 6000)
    assert share_error(served, demands) <= 0.05
    assert served.busy >= 0.99


@given(st.lists(st.sampled_from(list(RULES)), min_size=1, max_size=3, unique=True), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_no_slot_is_idle_but_those_that_are_left_free(present: list[str], slots: int) -> None:
    demands = [
        Demand(f"{tier}-{index}", tier, [5.0 + index])
        for tier in present
        for index in range(2 + -(-slots // RULES[tier].running))
    ]
    kept = min(RULES[tier].reserve(slots) for tier in present)
    assert saturated(demands, slots, 400).busy * slots >= 0.99 * (slots - kept)


# ---------------------------------------------------------------------------------------------- listeners
@given(st.integers(0, 10**6))
@settings(max_examples=5, deadline=None)
def test_an_account_at_twenty_times_its_share_hardly_moves_the_others_first_audio(seed: int) -> None:
    before, after = (first_audio_p95_s(seed, times) for times in (1, 20))
    assert after <= 1.1 * before


# ----------------------------------------------------------------------------------- and what would break it
def unfair_gap() -> bool:
    demands = [Demand("short", "pro", [2.0]), Demand("long", "pro", [60.0])]
    return widest_gap(saturated(demands, 4, 300, UNLIMITED, FirstCome), demands) > 2


def unfair_jain() -> bool:
    demands = [Demand(f"a{index}", "pro", [2.0 + 3 * index]) for index in range(10)]
    served = saturated(demands, 4, 1000, UNLIMITED, FirstCome)
    return jain(served.totals({each.account: each.account for each in demands}).values()) < 0.98


def unfair_shares() -> bool:
    demands = [Demand(f"{tier}-{index}", tier, [10.0]) for tier in RULES for index in range(6)]
    return share_error(saturated(demands, 4, 1000, RULES, FirstCome), demands) > 0.05


def idle_slots() -> bool:
    """Only one tier waits, and leaves half of them free."""
    rules = {"pro": TierRule(1.0, 1.0, 100, leaves=0.5)}
    demands = [Demand(f"a{index}", "pro", [10.0]) for index in range(6)]
    return saturated(demands, 8, 1000, rules).busy < 0.99


@pytest.mark.parametrize("broken", [unfair_gap, unfair_jain, unfair_shares, idle_slots], ids=lambda each: each.__name__)
def test_each_measure_can_fail(broken: Callable[[], bool]) -> None:
    assert broken()


def test_the_greedy_one_is_noticed_where_who_comes_first_is_served_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoscaling.simulator.size.FairQueue", FirstCome)
    before, after = (first_audio_p95_s(1, times, load=0.9, duration_s=60.0) for times in (1, 20))
    assert after > 1.1 * before


# ---------------------------------------------------------------------------------------------- the cost
def test_a_decision_costs_the_logarithm_of_the_accounts() -> None:
    """Counted in calls, which no other process changes; in microseconds it is printed by the command."""

    def calls(tenants: int) -> float:
        count = 0

        def note(_frame: Any, event: str, _argument: Any) -> None:
            nonlocal count
            count += event in {"call", "c_call"}

        outside = sys.getprofile()
        sys.setprofile(note)
        try:
            decision_s(tenants, 1)
            begin = count
            decision_s(tenants, 2001)
        finally:
            sys.setprofile(outside)
        return (count - 2 * begin) / 2000

    few, many = calls(10), calls(1000)
    assert few > 5
    assert many <= 1.5 * few


# ---------------------------------------------------------------------------------------------- the table
def test_the_command_prints_the_table_and_says_what_is_not_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = [fairness.Figure("one", "≤ 2", 1.5, kept=True), fairness.Figure("other", "≥ 0.98", 0.5, kept=False)]
    monkeypatch.setattr(fairness, "figures", lambda _seed: iter(figures))
    assert fairness.main(["--seed", "3"]) == 1
    *shown, last = capsys.readouterr().out.splitlines()
    assert shown[2:] == ["| one | ≤ 2 | 1.500 |", "| other | ≥ 0.98 | 0.500 **not kept** |"]
    assert [each["kept"] for each in json.loads(last)["figures"]] == [True, False]
