"""The fair queue by itself: shares, clocks and deadlines over random crowds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaling.fairness import Places, Shares, Slots, Tenant, TierRule, Waiting, choose

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
RULES = {
    "free": TierRule(0.1, 1.0, 1),
    "pro": TierRule(0.3, 4.0, 4),
    "enterprise": TierRule(0.6, 16.0, 32),
}
ROOMY = Slots(64, 64)


def waiting(
    name: str, *, audio_s: float = 10.0, num_tracks: int = 1, deadline_s: float = 0.0, stream: bool = False
) -> Waiting:
    deadline = EPOCH + timedelta(seconds=deadline_s)
    return Waiting(name, num_tracks, audio_s, "stream" if stream else "async", deadline)


def tenant(name: str, tier: str, *line: Waiting, virtual_s: float = 0.0, running: int = 0) -> Tenant:
    return Tenant(name, tier, virtual_s, running, line or (waiting(f"{name}-1"),))


def chosen(tenants: list[Tenant], shares: Shares | None = None, slots: Slots = ROOMY) -> str | None:
    choice = choose(tenants, shares or Shares(RULES), slots)
    return choice[1].generation_id if choice else None


# -------------------------------------------------------------------------------- one choice
def test_nobody_waits() -> None:
    assert chosen([]) is None


def test_with_nothing_owed_the_tier_with_the_largest_share_is_first() -> None:
    assert chosen([tenant("f", "free"), tenant("p", "pro"), tenant("e", "enterprise")]) == "e-1"


@pytest.mark.parametrize(("made_s", "expected"), [(0.0, "e-1"), (99.0, "e-1"), (100.0, "f-1")])
def test_it_is_a_tiers_turn_when_it_is_owed_as_much_as_its_next_generation(made_s: float, expected: str) -> None:
    """A tenth of what is made is free's: of ten seconds, after a hundred. Until then the order is strict."""
    shares = Shares(RULES)
    shares.served("enterprise", made_s, {"free"})
    assert chosen([tenant("f", "free"), tenant("e", "enterprise")], shares) == expected


def test_of_several_whose_turn_it_is_who_is_owed_most_is_first() -> None:
    shares = Shares(RULES)
    shares.served("enterprise", 200.0, {"free", "pro"})  # they are owed 20 and 60 seconds
    assert chosen([tenant("f", "free"), tenant("p", "pro"), tenant("e", "enterprise")], shares) == "p-1"
    long = tenant("p", "pro", waiting("p-1", audio_s=61.0))
    assert chosen([tenant("f", "free"), long, tenant("e", "enterprise")], shares) == "f-1"


def test_the_lowest_clock_of_a_tier_is_first() -> None:
    assert chosen([tenant("a", "pro", virtual_s=5), tenant("b", "pro", virtual_s=4.9)]) == "b-1"


def test_equal_clocks_fall_back_to_the_name_so_that_two_workers_agree() -> None:
    assert chosen([tenant("b", "pro"), tenant("a", "pro")]) == "a-1"


def test_the_earliest_deadline_of_an_account_is_first() -> None:
    assert chosen([tenant("a", "pro", waiting("late", deadline_s=9), waiting("soon", deadline_s=3))]) == "soon"


def test_a_stream_goes_before_every_deadline_of_its_account() -> None:
    assert chosen([tenant("a", "pro", waiting("due", deadline_s=-60), waiting("live", stream=True))]) == "live"


def test_an_account_at_its_limit_is_passed_over() -> None:
    assert chosen([tenant("a", "free", running=1), tenant("b", "free", virtual_s=100)]) == "b-1"


def test_a_tier_that_nobody_knows_is_not_served() -> None:
    assert chosen([tenant("a", "gold")]) is None


def test_the_next_one_waits_for_its_slots_and_nobody_takes_them() -> None:
    wide, narrow = tenant("a", "pro", waiting("wide", num_tracks=4)), tenant("b", "pro", virtual_s=1)
    assert chosen([wide, narrow], slots=Slots(8, 3)) is None
    assert chosen([wide, narrow], slots=Slots(8, 4)) == "wide"


def test_one_wider_than_the_worker_runs_alone() -> None:
    wide = tenant("a", "enterprise", waiting("wide", num_tracks=8))
    assert chosen([wide], slots=Slots(4, 3)) is None
    assert chosen([wide], slots=Slots(4, 4)) == "wide"


def test_a_copy_of_the_books_leaves_the_original_alone() -> None:
    shares = Shares(RULES)
    shares.copy().served("pro", 10.0, {"pro", "free"})
    assert shares.owed("free") == 0.0


def test_slots_are_those_of_the_replicas_that_are_ready() -> None:
    places = Places(10, at_hand=2)
    assert places.slots(1, most=100, taken=3) == Slots(10, 7, 2)
    assert places.slots(3, most=100, taken=3) == Slots(30, 27, 6)
    assert places.slots(3, most=25, taken=30) == Slots(25, 0, 6)


@pytest.mark.parametrize(("leaves", "slots", "kept"), [(0.12, 8, 0), (0.12, 16, 1), (0.29, 100, 29), (0, 100, 0)])
def test_slots_are_left_free_by_whole_ones(leaves: float, slots: int, kept: int) -> None:
    assert TierRule(0.1, 1.0, 1, leaves).reserve(slots) == kept


def test_a_charge_is_divided_by_the_weight() -> None:
    assert RULES["pro"].charge_s(10.0) == 2.5


# ------------------------------------------------------------------------------ many choices
@dataclass
class Crowd:
    """Accounts that never run out of work, served one generation after the other."""

    sizes: dict[str, list[float]]  # account "tier/number" → audio-seconds of each of its generations
    clocks: dict[str, float] = field(default_factory=dict)
    served: dict[str, float] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)

    def run(self, rounds: int, shares: Shares) -> None:
        for turn in range(rounds):
            tenants = [self._tenant(name, turn) for name in self.sizes]
            choice = choose(tenants, shares, ROOMY)
            assert choice is not None
            who, what = choice
            shares.served(who.tier, what.audio_s, {each.tier for each in tenants})
            self.clocks[who.account_id] = who.virtual_s + shares.rules[who.tier].charge_s(what.audio_s)
            self.served[who.account_id] = self.served.get(who.account_id, 0.0) + what.audio_s
            self.order.append(who.account_id)

    def _tenant(self, name: str, turn: int) -> Tenant:
        sizes = self.sizes[name]
        return tenant(
            name,
            name.split("/", 1)[0],
            waiting(f"{name}.{turn}", audio_s=sizes[len([each for each in self.order if each == name]) % len(sizes)]),
            virtual_s=self.clocks.get(name, 0.0),
        )

    def of_tier(self, tier: str) -> float:
        return sum(amount for name, amount in self.served.items() if name.split("/")[0] == tier)


LONGEST_S = 60.0
SIZES = st.lists(st.floats(0.1, LONGEST_S), min_size=1, max_size=5)


@st.composite
def crowds(draw: st.DrawFn) -> Crowd:
    sizes = {f"{tier}/{number}": draw(SIZES) for tier in RULES for number in range(draw(st.integers(0, 3)))}
    return Crowd(sizes or {"free/0": [10.0]})


@given(crowds(), st.integers(1, 120))
@settings(max_examples=60, deadline=None)
def test_every_tier_that_waits_gets_its_share(crowd: Crowd, rounds: int) -> None:
    shares = Shares(RULES)
    crowd.run(rounds, shares)
    total = sum(crowd.served.values())
    for tier, rule in RULES.items():
        if any(name.startswith(f"{tier}/") for name in crowd.sizes):
            assert crowd.of_tier(tier) >= rule.share * total - len(RULES) * LONGEST_S


@given(crowds(), st.integers(1, 120))
@settings(max_examples=60, deadline=None)
def test_only_the_largest_tier_gets_more_than_its_share(crowd: Crowd, rounds: int) -> None:
    """What is left over goes to the largest tier that waits; the others get what they are owed and no more."""
    crowd.run(rounds, Shares(RULES))
    total = sum(crowd.served.values())
    present = [tier for tier in RULES if any(name.startswith(f"{tier}/") for name in crowd.sizes)]
    for tier in present:
        if tier != max(present, key=lambda name: RULES[name].share):
            assert crowd.of_tier(tier) <= RULES[tier].share * total + len(RULES) * LONGEST_S


@given(crowds(), st.integers(1, 120))
@settings(max_examples=60, deadline=None)
def test_accounts_of_a_tier_get_the_same_but_for_one_generation(crowd: Crowd, rounds: int) -> None:
    crowd.run(rounds, Shares(RULES))
    for tier in RULES:
        amounts = [crowd.served.get(name, 0.0) for name in crowd.sizes if name.startswith(f"{tier}/")]
        assert not amounts or max(amounts) - min(amounts) <= 2 * LONGEST_S


@given(crowds())
@settings(max_examples=30, deadline=None)
def test_nobody_starves(crowd: Crowd) -> None:
    """With every generation of the same length, an account is served at least once per (accounts · 1/share) turns."""
    crowd.sizes = {name: [10.0] for name in crowd.sizes}
    crowd.run(150, Shares(RULES))
    assert set(crowd.order) == set(crowd.sizes)
    last_gap = {name: 150 - 1 - max(i for i, who in enumerate(crowd.order) if who == name) for name in crowd.sizes}
    assert max(last_gap.values()) <= 3 * 10 + 10


@given(st.lists(st.tuples(st.floats(0.1, LONGEST_S), st.booleans()), min_size=1, max_size=100))
@settings(max_examples=100, deadline=None)
def test_a_tier_that_comes_and_goes_gets_no_more_than_one_that_stays(turns: list[tuple[float, bool]]) -> None:
    """An account that waits only now and then does not turn each arrival into a turn at once."""
    shares, free_s, total_s = Shares(RULES), 0.0, 0.0
    for audio_s, present in turns:
        tenants = [tenant("e", "enterprise", waiting("e", audio_s=audio_s))]
        if present:
            tenants.append(tenant("f", "free", waiting("f", audio_s=audio_s)))
        choice = choose(tenants, shares, ROOMY)
        assert choice is not None
        shares.served(choice[0].tier, audio_s, {each.tier for each in tenants})
        total_s += audio_s
        free_s += audio_s if choice[0].tier == "free" else 0.0
    assert free_s <= RULES["free"].share * total_s + LONGEST_S


@given(st.permutations(range(6)), st.lists(st.floats(-100, 100), min_size=6, max_size=6))
def test_the_choice_does_not_depend_on_the_order_of_the_rows(order: list[int], clocks: list[float]) -> None:
    names = [*RULES, *RULES]
    tenants = [tenant(f"{tier}/{i}", tier, virtual_s=clocks[i]) for i, tier in enumerate(names)]
    assert chosen([tenants[i] for i in order]) == chosen(tenants)


@pytest.mark.parametrize("running", [0, 1, 2, 3, 4, 5])
def test_the_running_limit_is_the_tiers(running: int) -> None:
    one = replace(tenant("a", "pro"), running=running)
    assert (chosen([one]) is not None) == (running < 4)
