"""The simulator against arithmetic that can be done by hand, and against what must never happen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaling.demand import DemandPolicy
from autoscaling.fair_queue import FairQueue
from autoscaling.fairness import TierRule
from autoscaling.policy import ModelPolicy
from autoscaling.signals import ModelSignals
from autoscaling.simulator.cluster import Autoscaler, Cluster, Outcome
from autoscaling.simulator.course import course_of
from autoscaling.simulator.replica import Profile
from autoscaling.simulator.report import summarise
from autoscaling.simulator.rivals import FirstCome, Fixed, RayPolicy, RaySettings, clairvoyant_gpu_s
from autoscaling.simulator.tiers import TierService
from autoscaling.simulator.workload import Diurnal, Mix, Request, poisson, read_trace

TIERS = {
    "enterprise": TierService(TierRule(0.6, 16, 32), 1.0, 10, 1, 1e9, 1e9),
    "free": TierService(TierRule(0.4, 1, 100), 10.0, 300, 4, 1e9, 1e9),
}
# One stream alone is made at 10 times real time, two together at 7.5 times each.
PROFILE = Profile(streams=2, base_s=0.02 / 15, stream_s=0.02 / 30, first_audio_s=0.3, overhead_s=0.0, cold_start_s=20)
MIX = Mix({"m": 1.0}, tiers={"enterprise": 0.3, "free": 0.7}, tenants={"enterprise": 3, "free": 200})


def request(number: int, arrival_s: float, audio_s: float = 30.0, tier: str = "free") -> Request:
    return Request(number, arrival_s, "m", tier, f"{tier}-{number}", "stream", audio_s)


def simulate(
    requests: list[Request], autoscaler: Autoscaler | None = None, until_s: float = 100.0, initial: int = 1
) -> Outcome:
    cluster = Cluster({"m": PROFILE}, TIERS, autoscaler or Fixed({"m": 1}), {"m": initial})
    return cluster.run(requests, until_s)


def times(outcome: Outcome) -> dict[int, tuple[float, float, float]]:
    """Request → when it was admitted, heard and done."""
    return {job.request.id: (job.admitted_s, job.heard_s or -1, job.done_s or -1) for job in outcome.jobs}


def test_one_stream_alone() -> None:
    assert times(simulate([request(1, 5.0)]))[1] == pytest.approx((5.0, 5.03, 8.0))


def test_two_streams_share_the_pace_while_both_are_there() -> None:
    # From 1 s on both go at 7.5: the first has 20 s of audio left; when it is done, 10 s of the second are.
    assert PROFILE.rate(1) == pytest.approx(10)
    assert PROFILE.rate(2) == pytest.approx(7.5)
    seen = times(simulate([request(1, 0.0), request(2, 1.0)]))
    assert seen[1][2] == pytest.approx(1 + 20 / 7.5)
    assert seen[2][1] == pytest.approx(1 + 0.3 / 7.5)
    assert seen[2][2] == pytest.approx(1 + 20 / 7.5 + 10 / 10)


def test_a_third_waits_for_a_place_and_the_higher_tier_goes_first() -> None:
    requests = [request(1, 0.0), request(2, 0.0), request(3, 0.1), request(4, 0.2, tier="enterprise")]
    seen = times(simulate(requests))
    assert seen[4][0] == pytest.approx(4.0)  # both are done at 30 / 7.5
    assert seen[3][0] == pytest.approx(4.0)
    outcome = simulate([request(1, 0.0), request(2, 0.0, 60.0), request(3, 0.1), request(4, 0.2, tier="enterprise")])
    assert times(outcome)[4][0] < times(outcome)[3][0]


def test_a_line_without_tiers_serves_who_came_first_and_forgets_who_left() -> None:
    requests = [request(number, 0.0) for number in (1, 2)]
    requests += [
        replace(request(3, 0.1), stays_s=1.0),
        request(4, 0.2),
        request(5, 0.3),
        request(6, 0.4, 30, "enterprise"),
    ]
    fair, first_come = (
        Cluster({"m": PROFILE}, TIERS, Fixed({"m": 1}), {"m": 1}, queue=queue).run(requests, 100.0)
        for queue in (None, FirstCome)
    )
    assert [job.request.id for job in fair.jobs] == [1, 2, 6, 4, 5]
    assert [job.request.id for job in first_come.jobs] == [1, 2, 4, 5, 6]
    assert [each.id for each in first_come.left] == [3]


def test_a_replica_serves_after_its_cold_start_and_is_paid_for_from_when_it_was_asked_for() -> None:
    outcome = simulate([request(1, 0.0)], Fixed({"m": 1}), until_s=30.0, initial=0)
    assert times(outcome)[1] == pytest.approx((20.0, 20.03, 23.0))
    assert outcome.gpu_s == pytest.approx(30.0)
    assert outcome.starts == 1


class Steps(Fixed):
    """So many until a time, then so many."""

    def __init__(self, *steps: tuple[float, int]) -> None:
        self._steps = steps

    def decide(self, signals: Mapping[str, ModelSignals], now: float) -> Mapping[str, int]:
        return {"m": next(number for until, number in reversed(self._steps) if now >= until)}


def test_a_replica_that_is_taken_away_finishes_what_it_has() -> None:
    outcome = simulate([request(1, 0.0, 300.0)], Steps((0, 1), (5, 0)), until_s=60.0)
    assert times(outcome)[1][2] == pytest.approx(30.0)
    assert outcome.gpu_s == pytest.approx(30.0)


def test_who_would_wait_too_long_is_refused_at_the_door() -> None:
    strict = {name: replace(tier, max_stream_wait_s=5.0) for name, tier in TIERS.items()}
    cluster = Cluster({"m": PROFILE}, strict, Fixed({"m": 1}), {"m": 1})
    outcome = cluster.run([request(number, 0.0) for number in range(6)], 10.0)
    # The third would wait 60 / 15 = 4 s, and whoever comes after it 6 s.
    assert [job.request.id for job in outcome.jobs] == [0, 1, 2]
    assert [each.id for each in outcome.refused] == [3, 4, 5]


# -------------------------------------------------------------------------------- clients that leave
def test_who_leaves_while_it_waits_is_cancelled_and_the_next_one_goes_first() -> None:
    waits, next_one = replace(request(3, 0.1), stays_s=2.0), request(4, 0.2)
    outcome = simulate([request(1, 0.0), request(2, 0.0), waits, next_one])
    assert outcome.left == [waits]
    assert times(outcome).keys() == {1, 2, 4}
    assert times(outcome)[4][0] == pytest.approx(4.0)  # both are done at 30 / 7.5


def test_who_leaves_while_it_is_made_frees_its_place_and_is_refunded() -> None:
    """Made for a second at 7.5 times real time, its account gets back 22.5 of 30 s, and so its next one is first."""
    requests = [
        replace(request(1, 0.0), stays_s=1.0, tenant="left"), replace(request(2, 0.0), tenant="stayed"),
        replace(request(3, 0.1), tenant="stayed"), replace(request(4, 0.2), tenant="left"),
    ]  # fmt: skip
    outcome = simulate(requests)
    job = next(job for job in outcome.jobs if job.request.id == 1)
    assert (job.left_s, job.done_s) == (1.0, None)
    seen = times(outcome)
    assert seen[4][0] == 1.0
    assert seen[3][0] > 1.0


def test_who_leaves_after_the_end_has_left_nothing() -> None:
    outcome = simulate([replace(request(1, 0.0), stays_s=50.0)])
    assert times(outcome)[1][2] == pytest.approx(3.0)
    assert not outcome.left


def test_who_leaves_before_anything_was_due_is_no_broken_promise() -> None:
    def first_audio(stays_s: float) -> float | None:
        requests = [request(1, 0.0, 300.0), request(2, 0.0, 300.0), replace(request(3, 0.1), stays_s=stays_s)]
        return summarise(simulate(requests), TIERS).tiers["free"].first_audio

    assert first_audio(9.0) == 1.0
    assert first_audio(11.0) == pytest.approx(2 / 3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.2, 3.0), st.floats(0, 30), st.floats(0.4, 1.0))
def test_clients_come_and_leave_and_the_books_are_even(seed: int, rate: float, cold_s: float, kept: float) -> None:
    """Wherever they are when they leave: in the line, in a replica that serves or drains, beside a start or not."""
    policy = ModelPolicy(2, PROFILE.rate(2), cold_s, max_replicas=20, break_even_s=1)
    requests = replace(MIX, leaving=0.5).requests(poisson(rate, 120, seed), seed)
    profile = replace(PROFILE, cold_start_s=cold_s, beside_start=kept)
    cluster = Cluster({"m": profile}, TIERS, DemandPolicy({"m": policy}))
    outcome = cluster.run(requests, 200)
    jobs = {job.request.id: job for job in outcome.jobs}
    assert sorted([*jobs, *(each.id for each in outcome.left)]) == [each.id for each in requests]
    for job in jobs.values():
        assert (job.done_s is None) == (job.left_s is not None)
        if job.left_s is not None:
            assert job.left_s == pytest.approx(job.request.arrival_s + job.request.stays_s)
    size = cluster._sizes["m"]
    assert (size.waiting, size.replicas.running, len(size.queue)) == (0, 0, 0)
    assert size.queue.waiting_audio_s("free") == pytest.approx(0, abs=1e-6)
    assert isinstance(size.queue, FairQueue)
    assert not any(account.running for account in size.queue._accounts.values())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.2, 3.0), st.floats(0, 60))
def test_nothing_is_lost_nothing_is_early_and_no_replica_is_overfull(seed: int, rate: float, cold_s: float) -> None:
    profile = replace(PROFILE, cold_start_s=cold_s)
    policy = ModelPolicy(2, profile.rate(2), cold_s, max_replicas=20, break_even_s=30)
    requests = MIX.requests(poisson(rate, 120, seed), seed)
    outcome = Cluster({"m": profile}, TIERS, DemandPolicy({"m": policy})).run(requests, 200)
    assert sorted(job.request.id for job in outcome.jobs) == [each.id for each in requests]
    for job in outcome.jobs:
        assert job.heard_s is not None
        assert job.done_s is not None
        assert job.request.arrival_s <= job.admitted_s < job.heard_s <= job.done_s
        made_s = job.done_s - job.admitted_s
        assert job.request.audio_s / 10 - 1e-6 <= made_s <= job.request.audio_s / 7.5 + 1e-6
    assert outcome.gpu_s * 2 * profile.rate(2) >= sum(each.audio_s for each in requests) - 1e-6


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = (
        simulate(MIX.requests(poisson(0.5, 200, 3), 3), RayPolicy({"m": RaySettings()}), 300) for _ in range(2)
    )
    assert times(first) == times(second)
    assert first.gpu_s == second.gpu_s


# ------------------------------------------------------------------------------------ rivals
def test_somebody_who_knows_the_future_keeps_a_replica_through_short_gaps_only() -> None:
    # A request of 30 s takes 4 s on a full replica; the gap of 5.5 s is kept, that of 100 s costs a start.
    requests = [request(1, 0.0), request(2, 9.5), request(3, 114.0)]
    expected = 20 + 4 + 5.5 + 4 + 20 + 4
    assert clairvoyant_gpu_s(requests, {"m": PROFILE}) == pytest.approx(expected)


def test_ray_waits_for_its_delays() -> None:
    busy = ModelSignals(ready=1, running=2, queued=18)
    policy = RayPolicy({"m": RaySettings(metrics_interval_s=1)})
    decided = [policy.decide({"m": busy}, float(now))["m"] for now in range(32)]
    assert decided[:30] == [1] * 30
    assert decided[31] == 10
    idle = [policy.decide({"m": ModelSignals(ready=10)}, float(now))["m"] for now in range(32, 700)]
    assert idle[590] == 10
    assert idle[-1] == 1


# ---------------------------------------------------------------------------------- workload
def test_arrivals_have_their_rate_and_their_day() -> None:
    assert len(poisson(5, 2000, 1)) == pytest.approx(10_000, rel=0.05)
    day = Diurnal(mean=2, swing=0.5, period_s=4000, crowds=(1000,), crowd=5, crowd_s=100)
    arrivals = day.arrivals(4000, 1)
    assert sum(1000 <= at < 1100 for at in arrivals) == pytest.approx(1000, rel=0.1)
    assert sum(at < 500 for at in arrivals) < sum(1750 <= at < 2250 for at in arrivals) / 2


def test_profiles_come_from_two_measured_figures() -> None:
    profile = Profile.from_measured(8, one=10, many=30, many_streams=8)
    assert profile.rate(1) == pytest.approx(10)
    assert profile.capacity == pytest.approx(30)
    with pytest.raises(ValueError, match="fit no replica"):
        Profile.from_measured(8, one=10, many=5, many_streams=8)
    with pytest.raises(ValueError, match="at least one stream"):
        Profile(streams=0, base_s=0.01, stream_s=0)


def test_a_trace_is_read_and_scaled(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("arrival_s\n0.0\n1.0\n4.0\n")
    assert read_trace(path, scale=2) == [0.0, 0.5, 2.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time\n1\n", "no column arrival_s"),
        ("arrival_s\n1\nx\n", "line 3: arrival_s is no number: 'x'"),
        ("arrival_s\n2\n1\n", "line 3: arrival times must ascend"),
        ("arrival_s\nnan\n", "must ascend"),
        ("arrival_s\n", "no requests"),
    ],
)
def test_a_trace_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_trace(path)


def test_the_report_counts_tiers_apart() -> None:
    outcome = simulate([request(1, 0.0), request(2, 0.0, tier="enterprise"), request(3, 0.0, 10.0, "enterprise")])
    report = summarise(outcome, TIERS, clairvoyant_gpu_s=outcome.gpu_s / 2)
    assert report.of_clairvoyant == 2
    assert report.tiers["enterprise"].asked == 2
    assert report.tiers["free"].first_audio_p95_s is not None
    assert report.tiers["enterprise"].deadline is None
    assert not math.isnan(report.gpu_hours)


# -------------------------------------------------------------------------- nearer to the platform
def test_the_way_through_the_platform_delays_what_is_heard_and_holds_no_place() -> None:
    profile = replace(PROFILE, latency_s=0.2)
    outcome = Cluster({"m": profile}, TIERS, Fixed({"m": 1}), {"m": 1}).run([request(1, 5.0)], 10.0)
    assert times(outcome)[1] == pytest.approx((5.0, 5.23, 8.2))
    assert outcome.replica_s["m"] == pytest.approx(10.0)


def test_gpus_are_held_whole_and_the_last_replica_on_one_is_waited_for() -> None:
    profile = replace(PROFILE, gpu=0.5)
    outcome = Cluster({"m": profile}, TIERS, Steps((0, 3), (20, 1)), {"m": 3}).run([], 50.0)
    assert outcome.most_gpus == 2
    assert outcome.replica_s["m"] == pytest.approx(3 * 20 + 30)
    assert outcome.gpu_s == pytest.approx((3 * 20 + 30) / 2)
    assert outcome.held_gpu_s == pytest.approx(2 * 20 + 30)
    assert [sample.gpus for sample in outcome.samples[:21:20]] == [2, 1]


def test_the_course_holds_everybody_once() -> None:
    requests = MIX.requests(poisson(2, 300, 1), 1)
    outcome = Cluster({"m": PROFILE}, TIERS, Fixed({"m": 4}), {"m": 4}).run(requests, 300)
    course = course_of(outcome, TIERS, 300)
    width_s = 3600 * (course.window_hours[1] - course.window_hours[0])
    assert sum(course.asked_audio_s_per_s) * width_s == pytest.approx(sum(each.audio_s for each in requests))
    assert len(course.hours) == len(course.gpus) == len(course.replicas["m"]) <= 288
    assert set(course.heard) == {"enterprise", "free"}
    assert all(share is None or 0 <= share <= 1 for shares in course.heard.values() for share in shares)


def test_a_start_on_the_same_cores_slows_those_that_serve_until_it_serves() -> None:
    # 5 s at 10 times real time, then half of it until 25 s, then 10 times again.
    profile = replace(PROFILE, beside_start=0.5)
    cluster = Cluster({"m": profile}, TIERS, Steps((0, 1), (5, 2)), {"m": 1})
    outcome = cluster.run([request(1, 0.0, 200.0)], 40.0)
    assert times(outcome)[1][2] == pytest.approx(25 + (200 - 50 - 100) / 10)
    with pytest.raises(ValueError, match="keep a part of their rate"):
        replace(PROFILE, beside_start=0.0)


def test_replicas_that_share_cores_make_no_more_together_than_those_do() -> None:
    # Alone at 10 times real time; two replicas with a stream each make 12 together, so 6 each until one has ended.
    profile = replace(PROFILE, shared_rate=12.0)
    outcome = Cluster({"m": profile}, TIERS, Fixed({"m": 2}), {"m": 2}).run([request(1, 0.0), request(2, 0.0, 60.0)], 1)
    assert times(outcome)[1][2] == pytest.approx(30 / 6)
    assert times(outcome)[2][2] == pytest.approx(30 / 6 + 30 / 10)
    assert profile.together(1) == 12.0
    assert PROFILE.together(2) == pytest.approx(30.0)
    with pytest.raises(ValueError, match="make something together"):
        replace(PROFILE, shared_rate=0.0)


def test_the_door_lets_in_fewer_if_it_does_not_know_who_starts() -> None:
    strict = {name: replace(tier, max_stream_wait_s=22.0) for name, tier in TIERS.items()}
    requests = [request(number, 1.1) for number in range(25)]

    def let_in(*, knows_starts: bool) -> int:
        cluster = Cluster({"m": PROFILE}, strict, Fixed({"m": 6}), {"m": 1}, knows_starts=knows_starts)
        return len(cluster.run(requests, 60.0).jobs)

    assert let_in(knows_starts=True) > let_in(knows_starts=False) > 2
