"""The policy's parts one by one, and that nothing it can be told makes it raise or leave its limits."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaling.arrivals import Arrivals
from autoscaling.demand import DemandPolicy, Fleet
from autoscaling.policy import PANIC_S, ModelDecision, ModelPolicy, ModelState, decide
from autoscaling.signals import DueWork, ModelSignals

# 30 audio-seconds per second for each replica.
POLICY = ModelPolicy(rows=8, stream_rate=3.75, cold_start_s=30, min_replicas=1, max_replicas=20, break_even_s=100)
QUIET = ModelSignals(ready=1)


def steady(rate: float, dispersion: float = 1.0) -> Arrivals:
    return Arrivals(rate, rate, rate, dispersion, 10.0)


def first(signals: ModelSignals, policy: ModelPolicy = POLICY, now: float = 0.0) -> ModelDecision:
    return decide(signals, policy, ModelState(wishes=((now - 1000.0, 0),)), now)


def test_with_nothing_to_do_the_least_is_kept() -> None:
    decision = first(QUIET)
    assert (decision.replicas, decision.action, decision.reason) == (1, "hold", "floor")


def test_to_zero_and_back() -> None:
    policy = replace(POLICY, min_replicas=0)
    assert first(QUIET, policy).replicas == 0
    woken = first(ModelSignals(ready=0, queued=1, waiting=(DueWork(10, 300),)), policy)
    assert (woken.replicas, woken.action) == (1, "up")
    assert first(QUIET, replace(policy, warm_floor=2)).replicas == 2


def test_arrivals_ask_for_their_rate_and_headroom_for_chance() -> None:
    decision = first(ModelSignals(ready=4, arrivals=steady(120)))
    assert decision.components["base"] == pytest.approx(4)
    assert decision.components["headroom"] == pytest.approx(1.5 * math.sqrt(32) / 8)
    assert (decision.replicas, decision.reason) == (6, "demand")


def test_bursts_ask_for_more_headroom_even_between_them() -> None:
    between = Arrivals(0, 0, 60, dispersion=16, mean_audio_s=10)
    assert first(ModelSignals(ready=1, arrivals=between)).replicas == math.ceil(1.5 * math.sqrt(16 * 16) / 8)


def test_what_waits_counts_only_as_far_as_replicas_that_start_do_not_make_it() -> None:
    waiting = (DueWork(600, 10),)
    # Until 35 s from now, when a new one would have served 5 s, one ready replica makes 1050 audio-seconds.
    assert first(ModelSignals(ready=1, waiting=waiting)).components["backlog"] == 0
    # None is ready, and the one that starts makes 150 of the 600 by then: three more are needed.
    started = first(ModelSignals(ready=0, starting_in_s=(30,), waiting=waiting))
    assert started.components["backlog"] == pytest.approx(1 + 450 / 150)
    assert (started.replicas, started.reason) == (4, "backlog")


def test_what_is_due_later_asks_for_less() -> None:
    now = first(ModelSignals(ready=1, waiting=(DueWork(5000, 0),)))
    later = first(ModelSignals(ready=1, waiting=(DueWork(5000, 100),)))
    assert now.replicas > later.replicas > 1


def test_panic_follows_the_last_seconds_and_takes_nothing_away_for_a_minute() -> None:
    rising = Arrivals(short_s=90, medium_s=40, long_s=40, mean_audio_s=10)
    calm = first(ModelSignals(ready=3, arrivals=rising))
    panicked = first(ModelSignals(ready=2, arrivals=rising))
    assert calm.reason == "demand"
    assert panicked.reason == "panic"
    assert panicked.replicas > calm.replicas
    after = decide(ModelSignals(ready=9), POLICY, panicked.state, PANIC_S - 1)
    assert after.replicas == 9
    assert decide(ModelSignals(ready=9), POLICY, panicked.state, 101.0).replicas == 1


def test_a_replica_that_is_not_needed_is_kept_as_long_as_a_start_would_cost() -> None:
    busy = first(ModelSignals(ready=6, arrivals=steady(120)))
    kept = decide(ModelSignals(ready=6), POLICY, busy.state, 99.0)
    assert (kept.replicas, kept.reason, kept.action) == (6, "held", "hold")
    assert decide(ModelSignals(ready=6), POLICY, kept.state, 100.5).replicas == 1


def kept_s(dispersion: float, policy: ModelPolicy, rate: float = 120.0) -> int:
    """Seconds for which what a rate needed is kept when nothing comes any more but unevenness."""
    seen = first(ModelSignals(ready=6, arrivals=steady(rate, dispersion)), policy)
    needed, state = seen.replicas, seen.state
    for now in range(1, 1000):
        decision = decide(ModelSignals(ready=needed, arrivals=Arrivals(0, 0, 0, dispersion)), policy, state, now)
        if decision.replicas < needed:
            return now
        state = decision.state
    raise AssertionError("it is never taken away")


def test_through_the_silences_between_bursts_it_is_kept_longer_than_chance_asks_for() -> None:
    policy = replace(POLICY, break_even_s=None, cold_start_s=40)
    assert [kept_s(dispersion, policy) for dispersion in (0.0, 1.0, 2.0, 4.0, 30.0)] == [80, 80, 150, 225, 290]
    assert kept_s(1.0, replace(policy, cold_start_s=10)) == 60
    assert kept_s(30.0, replace(policy, cold_start_s=200)) == 400
    assert kept_s(30.0, POLICY) == 100  # as it was told


def test_the_last_one_is_kept_as_if_bursts_came() -> None:
    policy = replace(POLICY, min_replicas=0, break_even_s=None)
    assert kept_s(1.0, policy, rate=1.0) == 300
    assert kept_s(1.0, replace(policy, break_even_s=20), rate=1.0) == 20


def test_what_was_taken_away_is_not_started_again_because_arrivals_look_less_even() -> None:
    policy = replace(POLICY, break_even_s=None)
    busy = first(ModelSignals(ready=6, arrivals=steady(120)), policy)
    smooth = decide(ModelSignals(ready=6), policy, busy.state, 100.0)
    uneven = decide(ModelSignals(ready=1, arrivals=Arrivals(0, 0, 0, dispersion=30)), policy, smooth.state, 101.0)
    assert (smooth.replicas, uneven.replicas) == (1, 1)


def test_who_has_forgotten_everything_takes_what_there_is_for_needed() -> None:
    woken = decide(ModelSignals(ready=6), POLICY, ModelState(), 0.0)
    assert (woken.replicas, woken.reason) == (6, "held")
    assert decide(ModelSignals(ready=6), POLICY, woken.state, 100.5).replicas == 1


def test_old_or_impossible_signals_change_nothing() -> None:
    busy = first(ModelSignals(ready=6, arrivals=steady(120)))
    old = ModelSignals(ready=6, age_s=60)
    broken = ModelSignals(ready=6, running_audio_s=math.nan)
    for signals in (old, broken):
        decision = decide(signals, POLICY, busy.state, 500.0)
        assert (decision.replicas, decision.reason, decision.state) == (6, "stale", busy.state)
    assert first(old).replicas == 6


def test_the_ceiling_is_named() -> None:
    decision = first(ModelSignals(ready=20, arrivals=steady(10_000)))
    assert (decision.replicas, decision.reason) == (20, "ceiling")


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": 0},
        {"stream_rate": 0},
        {"cold_start_s": -1},
        {"min_replicas": 21},
        {"min_replicas": -1},
        {"warm_floor": 30},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"got|must lie"):
        replace(POLICY, **wrong)


numbers = st.floats(allow_nan=True, allow_infinity=True, width=32)
signals = st.builds(
    ModelSignals,
    ready=st.integers(-1, 50),
    starting_in_s=st.lists(numbers, max_size=4).map(tuple),
    running=st.integers(0, 50),
    running_audio_s=numbers,
    queued=st.integers(0, 9),
    waiting=st.lists(st.builds(DueWork, numbers, numbers), max_size=4).map(tuple),
    arrivals=st.builds(Arrivals, numbers, numbers, numbers, numbers, numbers),
    age_s=numbers,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(signals, max_size=5))
def test_whatever_it_is_told_it_stays_within_its_limits_and_never_raises(seen: list[ModelSignals]) -> None:
    state = ModelState()
    for now, each in enumerate(seen):
        decision = decide(each, POLICY, state, 37.0 * now)
        assert 1 <= decision.replicas <= 20
        assert decision.reason in {"demand", "backlog", "panic", "floor", "ceiling", "held", "stale"}
        state = decision.state


# --------------------------------------------------------------------------------- all sizes
def test_sizes_share_the_gpus_and_none_is_left_without() -> None:
    small = replace(POLICY, min_replicas=0)
    policy = DemandPolicy(
        {"small": small, "large": small}, Fleet(gpus=2, shares={"small": 0.25, "large": 1.0}, order=("large", "small"))
    )
    wanted = policy.decide(
        {"small": ModelSignals(ready=0, arrivals=steady(120)), "large": ModelSignals(ready=0, arrivals=steady(120))},
        0.0,
    )
    assert wanted == {"large": 1, "small": 4}
    assert policy.decisions["large"].reason == "gpus"


def test_a_size_without_news_is_left_alone() -> None:
    policy = DemandPolicy({"small": POLICY, "large": POLICY})
    assert policy.decide({"small": QUIET}, 0.0) == {"small": 1}
