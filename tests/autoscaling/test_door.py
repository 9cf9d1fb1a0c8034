"""Who is refused at the door of the simulation: as on the platform, by the same arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaling.fairness import TierRule
from autoscaling.simulator.cluster import Cluster
from autoscaling.simulator.ends import Ends
from autoscaling.simulator.replica import Profile
from autoscaling.simulator.rivals import Fixed
from autoscaling.simulator.tiers import TierService
from autoscaling.simulator.workload import Request

# Four places, each made at 5 times real time when all are taken.
PROFILE = Profile.from_measured(4, one=10, many=20, many_streams=4, cold_start_s=10)


def tiers(*, free_s: float = 1e9, leaves: float = 0.0) -> Mapping[str, TierService]:
    return {
        "enterprise": TierService(TierRule(0.75, 16, 32), 1.0, 10, 1, 1e9, 1e9),
        "free": TierService(TierRule(0.25, 1, 100, leaves), 10.0, 300, 4, free_s, free_s),
    }


def request(number: int, at_s: float, tier: str = "free", audio_s: float = 20.0) -> Request:
    return Request(number, at_s, "m", tier, f"{tier}-{number}", "stream", audio_s)


def refused(
    promised: Mapping[str, TierService], requests: list[Request], replicas: int = 1, *, knows_starts: bool = True
) -> list[int]:
    cluster = Cluster({"m": PROFILE}, promised, Fixed({"m": replicas}), {"m": 1}, knows_starts=knows_starts)
    return [each.id for each in cluster.run(requests, 5.0).refused]


def test_who_is_next_begins_when_the_next_one_ends() -> None:
    four = [request(number, 0.0) for number in range(4)]  # of 20 s, at 5 times real time: until 4 s
    assert refused(tiers(free_s=3.1), [*four, request(4, 1.0)]) == []
    assert refused(tiers(free_s=2.9), [*four, request(4, 1.0)]) == [4]


def test_a_small_tier_waits_longer_where_a_larger_one_holds_its_places() -> None:
    """Three of the four that come free go to the larger tier again: the small one waits for the fourth."""
    held = [request(number, number / 10, "enterprise", 10.0 * (1 + number)) for number in range(4)]
    alone = [request(number, number / 10, "free", 10.0 * (1 + number)) for number in range(4)]
    # They end at 2, 4.1, 6.2 and 8.3 s, as said when they begin.
    assert refused(tiers(free_s=1.6), [*alone, request(4, 0.5)]) == []
    job = replace(request(4, 0.5), mode="async")
    assert refused(tiers(free_s=7.7), [*held, job]) == [4]
    assert refused(tiers(free_s=7.9), [*held, job]) == []
    # A listener is not let in on the chance of that: of those that come free eleven may have to pass.
    assert refused(tiers(free_s=15.0), [*held, request(4, 0.5)]) == [4]


def test_what_a_tier_leaves_free_is_no_room_for_it() -> None:
    three = [request(number, 0.0, "enterprise") for number in range(3)]
    assert refused(tiers(free_s=0.5), [*three, request(3, 0.1)]) == []
    assert refused(tiers(free_s=0.5, leaves=0.25), [*three, request(3, 0.1)]) == [3]


def test_who_begins_when_a_replica_serves_that_starts_is_let_in() -> None:
    """Three are asked for at once and serve after 10 s; those that run end after 20 s."""
    four = [request(number, 0.0, audio_s=100.0) for number in range(4)]
    assert refused(tiers(free_s=5.0), [*four, request(4, 4.9)], replicas=4) == [4]
    late = request(4, 5.1)
    assert refused(tiers(free_s=5.0), [*four, late], replicas=4) == []
    assert refused(tiers(free_s=5.0), [*four, late], replicas=4, knows_starts=False) == [4]
    # Twelve places come, and whoever is let in is made then.
    many = [request(number, 5.2 + number / 100, audio_s=100.0) for number in range(4, 20)]
    assert refused(tiers(free_s=5.0), [*four, *many], replicas=4) == [16, 17, 18, 19]


def test_what_was_asked_for_is_heard_of_a_tick_later() -> None:
    four = [request(number, 0.0, audio_s=100.0) for number in range(4)]
    early = [request(4, 0.9), request(5, 1.1)]
    assert refused(tiers(free_s=12.0), [*four, *early], replicas=4) == [4]


def test_with_all_replicas_away_as_many_are_let_in_as_one_makes_in_time() -> None:
    sleeping = Cluster({"m": PROFILE}, tiers(free_s=5.0), Fixed({"m": 1}))
    outcome = sleeping.run([request(number, 0.0) for number in range(12)], 30.0)
    assert 4 <= len(outcome.jobs) < 12
    assert outcome.refused


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.integers(0, 50), st.floats(0, 40), min_size=1), st.floats(0, 40), st.data())
def test_the_ends_are_those_of_who_runs(ends: dict[int, float], now: float, data: st.DataObject) -> None:
    found = Ends()
    for who, at in ends.items():
        found.add(who, at)
    gone = data.draw(st.sets(st.sampled_from(sorted(ends))))
    for who in gone:
        found.remove(who)
    found.advance(now)
    expected = sorted(max(0.0, at - now) for who, at in ends.items() if who not in gone)
    assert [found[index] for index in range(len(found))] == pytest.approx(expected, abs=0.051)
    if expected:
        assert found[-1] == found[len(expected) - 1]
    with pytest.raises(IndexError):
        found[len(expected)]
