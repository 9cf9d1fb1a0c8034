"""The arithmetic of waiting, and what it reads from the database."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaling.backlog import (
    Backlog,
    Capacity,
    Line,
    ModelBacklog,
    Work,
    ahead_of,
    share_of,
    tier_ahead,
)
from autoscaling.fairness import Shares, Slots, Tenant, TierRule, Waiting, choose
from autoscaling.starting import Expected
from autoscaling.waits import own_wait_s, part_of, wait_s
from tests.api.limits.rows import NOW, TIERS

RULES = TIERS.rules
EIGHT = Capacity(slots=8, steps_per_s=400.0)  # 50 steps/s for each of eight tracks
CLOSE = 1e-9


def line(account_id: str, generations: int = 1, *, virtual_s: float = 0.0, each_s: float = 10.0) -> Line:
    """Generations of one track, 50 steps for each second."""
    audio_s = generations * each_s
    return Line(account_id, virtual_s, Work(50 * audio_s, generations, generations), audio_s)


def lines(*each: Line) -> dict[str, Line]:
    return {one.account_id: one for one in each}


works = st.builds(
    lambda generations, tracks, steps: Work(float(generations * tracks * steps), generations * tracks, generations),
    st.integers(1, 1000),
    st.integers(1, 8),
    st.integers(1, 30_000),
)
accounts = st.sampled_from(["acc_a", "acc_b", "acc_c", "acc_d"])
some_lines = st.dictionaries(accounts, st.tuples(st.floats(0, 1e4), works, st.floats(1, 1e5)), max_size=4).map(
    lambda found: {name: Line(name, clock, work, audio) for name, (clock, work, audio) in found.items()}
)
capacities = st.builds(Capacity, st.integers(1, 1000), st.floats(0.1, 1e6))
backlogs = st.builds(
    ModelBacklog, capacities, works, st.dictionaries(st.sampled_from([*RULES, "gone"]), some_lines, max_size=4)
)
tiers = st.sampled_from(list(RULES))


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
    assert wait_s("free", Work(), 2, busy, RULES) == 0
    assert wait_s("free", Work(), 3, busy, RULES) == 3000 / 400
    assert wait_s("free", Work(), 1, ModelBacklog(EIGHT), RULES) == 0


def test_who_is_next_begins_when_the_next_track_ends() -> None:
    """Not when all that runs would be done: eight run, and their ends are known."""
    ends_s = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
    busy = ModelBacklog(EIGHT, Work(36 * 50.0, 8, 8, ends_s))
    assert wait_s("free", Work(), 1, busy, RULES) == 1.0
    assert wait_s("free", Work(), 3, busy, RULES) == 3.0
    assert wait_s("free", Work(500, 1, 1), 1, busy, RULES) == 2.0
    assert wait_s("free", Work(4000, 8, 8), 1, busy, RULES) == (36 * 50 + 4000) / 400  # longer than they run
    assert wait_s("free", Work(50, 7, 7), 1, busy, RULES) == (36 * 50 + 50) / 400  # those before are done earlier


def test_slots_that_come_free_go_to_tiers_above_as_before() -> None:
    """Enterprise holds seven of eight: an eighth of what comes free is left for others, and for pro its share."""
    ends_s = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
    busy = ModelBacklog(EIGHT, Work(36 * 50.0, 8, 8, ends_s, {"enterprise": 7, "free": 1, "gone": 9}))
    assert [part_of(tier, EIGHT, busy.running, RULES) for tier in ("enterprise", "pro", "free")] == [1, 0.3, 0.125]
    assert wait_s("enterprise", Work(), 1, busy, RULES) == 1.0
    assert wait_s("pro", Work(), 1, busy, RULES) == 4.0  # the fourth of those that end, rounded up
    assert wait_s("free", Work(), 1, busy, RULES) == 8.0
    assert wait_s("free", Work(500, 1, 1), 1, busy, RULES) == 8.0 + 8 * 500 / 400


def test_larger_tiers_may_be_luckier_than_is_expected() -> None:
    """Of a tier that gets 0.3 of what comes free one more deviation of the negative binomial distribution is 2.8."""
    ends_s = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
    busy = ModelBacklog(EIGHT, Work(36 * 50.0, 8, 8, ends_s, {"enterprise": 7, "free": 1}))
    said = [wait_s("pro", Work(), 1, busy, RULES, spread=spread) for spread in (0.0, 0.5, 1.0)]
    assert said == [4.0, 5.0, 7.0]
    assert wait_s("pro", Work(), 1, busy, RULES, spread=2.0) == 8.0 + (9 - 8) * 450 / 400  # half of each was made
    assert wait_s("enterprise", Work(), 1, busy, RULES, spread=2.0) == 1.0  # nobody is larger
    idle = ModelBacklog(EIGHT, Work(), {"enterprise": lines(line("acc_a", 4))})
    assert wait_s("pro", Work(), 1, idle, RULES, spread=2.0) == 0.0  # there is room for all


def test_a_tier_waits_for_one_more_where_it_leaves_slots_free() -> None:
    sixteen = Capacity(16, 800.0)
    ends_s = tuple(float(second) for second in range(1, 16))
    busy = ModelBacklog(sixteen, Work(50 * sum(ends_s), 15, 15, ends_s))
    assert wait_s("enterprise", Work(), 1, busy, RULES) == 0
    assert wait_s("free", Work(), 1, busy, RULES) == 1.0  # one of 16 it leaves free
    ten = ModelBacklog(Capacity(10, 500.0, at_hand=2), Work(50 * 36, 8, 8, tuple(float(each) for each in range(1, 9))))
    assert wait_s("enterprise", Work(), 1, ten, RULES) == 0  # at hand, behind those that play
    assert wait_s("free", Work(), 1, ten, RULES) == 1.0
    idle = ModelBacklog(Capacity(1, 50.0))
    assert wait_s("free", Work(), 8, idle, RULES) == 0  # wider than there are slots: alone


@given(
    st.lists(st.floats(0.1, 60), max_size=8),
    st.lists(st.floats(0.1, 60), max_size=20),
)
def test_who_waits_for_one_slot_begins_no_later_than_was_said(running_s: list[float], ahead_s: list[float]) -> None:
    """Whatever the lengths are, and as long as nobody else comes first: what was promised is kept."""
    work = Work(50 * sum(running_s), len(running_s), len(running_s), tuple(sorted(running_s)))
    own = Work(50 * sum(ahead_s), len(ahead_s), len(ahead_s))
    said_s = wait_s("enterprise", own, 1, ModelBacklog(EIGHT, work), RULES)
    free_at = sorted([0.0] * (8 - len(running_s)) + running_s)
    for each in ahead_s:
        free_at = sorted([free_at[0] + each, *free_at[1:]])
    assert said_s is not None
    assert free_at[0] <= said_s * (1 + CLOSE) + CLOSE


def test_whoever_begins_sooner_with_replicas_that_start_waits_for_those_and_for_no_more() -> None:
    ends_s = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
    replicas = replace(EIGHT, per_replica=8)

    def said(own: Work, *starting: Expected, capacity: Capacity = replicas) -> float | None:
        busy = ModelBacklog(capacity, Work(36 * 50.0, 8, 8, ends_s), starting=starting)
        return wait_s("free", own, 1, busy, RULES)

    assert said(Work(), Expected(0.5)) == 0.5
    assert said(Work(), Expected(1.5)) == 1.0  # one that runs ends before
    assert said(Work(1500, 3, 3), Expected(2.5)) == 2.5
    line = Work(10_000, 20, 20)
    assert said(line) == (36 * 50 + 10_000) / 400
    assert said(line, Expected(2.5)) == 2.5 + (36 * 50 + 10_000 - 2.5 * 400) / 800
    # Of 16 slots more it leaves two free: it has one when seven of those that run have ended.
    assert said(line, Expected(2.5), Expected(4.0)) == said(line, Expected(2.5, 2)) == 7.0
    assert said(line, Expected(2.5, 3)) == 2.5
    assert said(line, Expected(2.5), Expected(60.0, 3)) == said(line, Expected(2.5))
    assert said(line, Expected(2.5), capacity=EIGHT) == said(line)  # nobody has said what a replica takes


def test_slots_of_replicas_that_start_are_beyond_what_larger_tiers_hold() -> None:
    ends_s = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
    work = Work(36 * 50.0, 8, 8, ends_s, {"enterprise": 7, "free": 1})
    starting = (Expected(2.0), Expected(3.0, 3))
    busy = ModelBacklog(replace(EIGHT, per_replica=8), work, starting=starting)
    assert wait_s("free", Work(), 1, busy, RULES, spread=2.0) == 2.0
    assert wait_s("pro", Work(5000, 10, 10), 1, busy, RULES, spread=2.0) == 3.0
    # With the first replica 5 of 16 slots come to pro: 9 of those 13 that end until three of them were its own.
    alone = replace(busy, starting=starting[:1])
    assert wait_s("pro", Work(5000, 10, 10), 1, alone, RULES, spread=2.0) == 8.0 + 1.25


@given(
    st.lists(st.floats(0.1, 60), max_size=8),
    st.lists(st.floats(0.1, 60), max_size=20),
    st.lists(st.tuples(st.floats(0.1, 60), st.integers(1, 3)), max_size=4),
)
def test_with_replicas_that_start_nobody_begins_later_than_was_said(
    running_s: list[float], ahead_s: list[float], starts: list[tuple[float, int]]
) -> None:
    work = Work(50 * sum(running_s), len(running_s), len(running_s), tuple(sorted(running_s)))
    own = Work(50 * sum(ahead_s), len(ahead_s), len(ahead_s))
    starting = tuple(Expected(*each) for each in sorted(starts))
    backlog = ModelBacklog(replace(EIGHT, per_replica=2), work, starting=starting)
    said_s = wait_s("enterprise", own, 1, backlog, RULES)
    new = [each.in_s for each in starting for _ in range(2 * each.replicas)]
    free_at = sorted([*[0.0] * (8 - len(running_s)), *running_s, *new])
    for each in ahead_s:
        free_at = sorted([free_at[0] + each, *free_at[1:]])
    assert said_s is not None
    assert free_at[0] <= said_s * (1 + CLOSE) + CLOSE
    without = wait_s("enterprise", own, 1, replace(backlog, starting=()), RULES)
    assert without is not None
    assert said_s <= without


def test_without_a_worker_nobody_can_say() -> None:
    assert wait_s("free", Work(), 1, ModelBacklog(), RULES) is None


def test_a_tier_alone_has_all_the_capacity() -> None:
    backlog = ModelBacklog(EIGHT, Work(4000, 8, 8), {"free": lines(line("acc_a", 80))})
    assert share_of("free", backlog, RULES) == 1
    assert wait_s("free", Work(40_000, 80, 80), 1, backlog, RULES) == 110


def test_the_largest_tier_also_gets_what_is_left_over() -> None:
    backlog = ModelBacklog(EIGHT, Work(), {"free": lines(line("acc_a", 80)), "enterprise": lines(line("acc_b", 80))})
    assert share_of("free", backlog, RULES) == 0.1
    assert share_of("enterprise", backlog, RULES) == 0.9
    assert share_of("pro", backlog, RULES) == 0.3  # if it came too
    # Its own 40,000 steps, while the free line advances by a ninth of that.
    assert wait_s("enterprise", Work(40_000, 80, 80), 1, backlog, RULES) == pytest.approx(40_000 / 0.9 / 400)
    # At most everything there is.
    assert wait_s("free", Work(40_000, 80, 80), 1, backlog, RULES) == pytest.approx(80_000 / 400)
    # Whose line is empty begins when the next one ends.
    assert ahead_of("pro", Work(), backlog, RULES) == Work()


def test_of_equal_tiers_the_first_is_the_largest() -> None:
    rules = {"a": TierRule(0.25, 1, 1), "b": TierRule(0.25, 1, 1)}
    backlog = ModelBacklog(EIGHT, Work(), {"a": lines(line("acc_a")), "b": lines(line("acc_b"))})
    assert [share_of(name, backlog, rules) for name in rules] == [0.75, 0.25]


def test_a_long_line_of_one_account_is_not_in_the_way_of_others() -> None:
    backlog = ModelBacklog(EIGHT, Work(), {"free": lines(line("acc_a", 100, virtual_s=50))})
    assert tier_ahead("free", "acc_b", 50, backlog, RULES) == Work(500, 1, 1)  # equal clocks: by the account's id
    assert tier_ahead("free", "acc_0", 50, backlog, RULES) == Work()
    assert tier_ahead("free", "acc_b", 49, backlog, RULES) == Work()
    assert tier_ahead("free", "acc_b", 75, backlog, RULES) == Work(1500, 3, 3)  # those on 50, 60 and 70
    assert tier_ahead("free", "acc_b", 1e6, backlog, RULES) == Work(50_000, 100, 100)
    assert tier_ahead("free", "acc_a", 1e6, backlog, RULES) == Work()  # its own is counted elsewhere
    assert tier_ahead("pro", "acc_b", 1e6, backlog, RULES) == Work()


def test_clocks_go_slower_in_tiers_with_more_weight() -> None:
    backlog = ModelBacklog(EIGHT, Work(), {"pro": lines(line("acc_a", 100))})
    assert tier_ahead("pro", "acc_b", 10, backlog, RULES).generations == 5  # on 0, 2.5, 5, 7.5 and 10


def test_who_comes_back_starts_where_the_others_stand() -> None:
    tiny = ModelBacklog(EIGHT, Work(), {"free": lines(line("acc_a", virtual_s=7), line("acc_b", virtual_s=5))})
    small = ModelBacklog(EIGHT, Work(), {"free": lines(line("acc_c", virtual_s=3))})
    backlog = Backlog(NOW, {"tiny": tiny, "small": small})
    assert backlog.floor_s("free") == 3
    assert backlog.floor_s("pro") == 0


@given(
    st.dictionaries(accounts, st.tuples(st.integers(0, 60), st.integers(1, 12)), min_size=1),
    accounts,
    st.integers(0, 11),
    st.sampled_from(list(RULES)),
)
def test_the_order_is_the_queues(waiting: dict[str, tuple[int, int]], mine: str, place: int, tier: str) -> None:
    """Serve the whole line by the queue's own rule: as many come before one as the arithmetic says."""
    clock_s, count = waiting.setdefault(mine, (0, place + 1))
    place = min(place, count - 1)
    rule = TierRule(1.0, RULES[tier].weight, 10**6)
    rules = {tier: rule}
    backlog = ModelBacklog(EIGHT, Work(), {tier: lines(*(line(a, n, virtual_s=v) for a, (v, n) in waiting.items()))})
    begins_s = clock_s + rule.charge_s(10.0 * place)
    said = place + tier_ahead(tier, mine, begins_s, backlog, rules).generations

    clocks = {account: float(clock) for account, (clock, _) in waiting.items()}
    left = {
        account: [Waiting(f"{account}-{i:02}", 1, 10.0, "async", NOW) for i in range(n)]
        for account, (_, n) in waiting.items()
    }
    served = 0
    while True:
        tenants = [Tenant(account, tier, clocks[account], 0, line) for account, line in left.items() if line]
        choice = choose(tenants, Shares(rules), Slots(8, 8))
        assert choice is not None
        tenant, generation = choice
        if generation.generation_id == f"{mine}-{place:02}":
            break
        left[tenant.account_id].remove(generation)
        clocks[tenant.account_id] += rule.charge_s(10.0)
        served += 1
    assert served == said


@given(backlogs, tiers, works, st.integers(1, 8))
def test_waiting_is_bounded_by_all_there_is(backlog: ModelBacklog, tier: str, own: Work, tracks: int) -> None:
    wait = wait_s(tier, own, tracks, backlog, RULES)
    assert wait is not None
    assert backlog.capacity is not None
    others = sum(work.steps for name, work in backlog.queued.items() if name != tier and name != "gone")
    most = (backlog.running.steps + own.steps + others) / backlog.capacity.steps_per_s
    assert 0 <= wait <= most * (1 + CLOSE)


@given(backlogs, tiers, works, works, st.integers(1, 8))
def test_more_ahead_is_never_sooner(backlog: ModelBacklog, tier: str, own: Work, more: Work, tracks: int) -> None:
    wait, longer = (wait_s(tier, work, tracks, backlog, RULES) for work in (own, own + more))
    assert wait is not None
    assert longer is not None
    assert wait <= longer * (1 + CLOSE)


@given(backlogs, tiers, accounts, st.floats(0, 2e4), st.floats(0, 2e4))
def test_a_later_clock_is_never_sooner(
    backlog: ModelBacklog, tier: str, account: str, clock_s: float, more_s: float
) -> None:
    ahead, later = (tier_ahead(tier, account, each, backlog, RULES) for each in (clock_s, clock_s + more_s))
    everything = backlog.queued.get(tier, Work())
    assert 0 <= ahead.generations <= later.generations <= everything.generations
    assert 0 <= ahead.tracks <= later.tracks
    assert 0 <= ahead.steps <= later.steps <= everything.steps * (1 + CLOSE)


@given(backlogs, tiers, works)
def test_of_what_is_ahead_nothing_is_made_up(backlog: ModelBacklog, tier: str, own: Work) -> None:
    ahead = ahead_of(tier, own, backlog, RULES)
    everything = backlog.waiting + own
    assert own.generations <= ahead.generations <= everything.generations
    assert own.tracks <= ahead.tracks <= everything.tracks
    assert own.steps <= ahead.steps <= everything.steps * (1 + CLOSE)


@given(backlogs)
def test_shares_of_all_lines_add_up(backlog: ModelBacklog) -> None:
    busy = [name for name in RULES if backlog.queued.get(name, Work()).generations > 0]
    if busy:
        assert sum(share_of(name, backlog, RULES) for name in busy) == pytest.approx(1)
        assert all(share_of(name, backlog, RULES) >= RULES[name].share - CLOSE for name in busy)


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
    free_at = sorted([0.0] * places + running_s)[-places:]
    for each in ahead_s:
        free_at[free_at.index(min(free_at))] += each
    return min(free_at)


@given(seconds, seconds, st.integers(1, 8))
def test_an_accounts_own_places(running_s: list[float], ahead_s: list[float], places: int) -> None:
    assert own_wait_s(running_s, ahead_s, places) == pytest.approx(by_hand(running_s, ahead_s, places))
