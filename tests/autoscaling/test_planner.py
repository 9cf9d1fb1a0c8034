"""Plans that can be checked by hand, and questions that have no answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoscaling.fairness import TierRule
from autoscaling.planner import PlanError, Question, plan, profile_from_results
from autoscaling.simulator.replica import Profile
from autoscaling.simulator.tiers import TierService
from autoscaling.simulator.workload import Mix, Request, poisson

TIERS = {
    "enterprise": TierService(TierRule(0.6, 16, 32), 1.0, 10, 1, 5, 60),
    "free": TierService(TierRule(0.4, 1, 100), 10.0, 300, 4, 30, 300),
}
OBJECTIVES = {"enterprise": 0.999, "free": 0.97}
PROFILE = Profile.from_measured(8, one=10, many=30, many_streams=8)


def question(rate: float = 4.0, seconds: float = 600.0, **others: Any) -> Question:
    mix = Mix({"small": 1.0}, tiers={"enterprise": 0.2, "free": 0.8}, tenants={"enterprise": 20, "free": 5000})
    asked = Question(mix.requests(poisson(rate, seconds, 1), 1), {"small": PROFILE}, TIERS, OBJECTIVES, {"free": 0.95})
    return replace(asked, **others)


def test_the_fixed_number_is_the_smallest_that_keeps_the_promises() -> None:
    answer = plan(question(price=2.0))
    fixed = next(option for option in answer.options if option.name == "fixed")
    least, most = fixed.replicas["small"]
    # 4 requests of 15 s on average are 60 audio-seconds per second, and a replica makes 30.
    assert 2 <= least == most <= 4
    assert fixed.meets
    assert fixed.cost == pytest.approx(2.0 * fixed.report.gpu_hours)
    assert fixed.report.gpu_hours == pytest.approx(least * 600 / 3600, rel=0.05)


def test_bursts_are_served_cheaper_by_a_policy_and_a_steady_stream_by_a_fixed_number() -> None:
    steady = plan(question())
    assert steady.best == "fixed"
    night = [replace(each, arrival_s=each.arrival_s + 20_000) for each in question(8.0, 200).requests]
    evening = question(0.02, 19_000).requests
    both = [replace(each, id=index) for index, each in enumerate([*evening, *night])]
    free = [replace(each, tier="free", tenant=f"free-{index}", mode="async") for index, each in enumerate(both)]
    bursts = plan(question(requests=free))
    assert bursts.best == "demand"
    fixed, demand = bursts.options
    assert demand.report.gpu_hours < fixed.report.gpu_hours


def test_a_slower_start_is_answered_too() -> None:
    answer = plan(question(), cold_starts_s=[5.0, 300.0])
    assert list(answer.what_if) == [5.0, 300.0]
    fast, slow = answer.what_if.values()
    assert fast.report.tiers["free"].admitted >= slow.report.tiers["free"].admitted


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"requests": []}, "no traffic"),
        ({"profiles": {}}, "no profile says how fast small is"),
        ({"tiers": {"free": TIERS["free"]}}, "the tier enterprise has no promises"),
        ({"profiles": {"small": replace(PROFILE, streams=64)}}, "every listener would stall: plan with at most 38"),
    ],
)
def test_what_cannot_be_answered_is_said(others: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        question(**others)


def test_a_stream_that_is_too_slow_alone_is_helped_by_no_number() -> None:
    slow = replace(PROFILE, overhead_s=2.0)
    with pytest.raises(PlanError, match=r"not even \d+ replicas keep the promises"):
        plan(question(0.05, 300, profiles={"small": slow}))


def test_profiles_are_read_from_results_of_the_engine_benchmark(tmp_path: Path) -> None:
    one, many = tmp_path / "one.json", tmp_path / "many.json"
    one.write_text(json.dumps({"runs": [{"streams": 1, "realtime_factor": 1.5}]}))
    many.write_text(json.dumps({"runs": [{"streams": 8, "realtime_factor": 3.2}]}))
    profile = profile_from_results([one, many])
    assert profile.rate(1) == pytest.approx(1.5)
    # Eight at once are slower than they are heard; two keep up.
    assert profile.streams == 2
    assert profile.rate(2) >= 1
    with pytest.raises(PlanError, match="with more streams are needed"):
        profile_from_results([one])
    one.write_text("[]")
    with pytest.raises(PlanError, match="no result of"):
        profile_from_results([one])


def test_the_committed_results_can_be_planned_with() -> None:
    results = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
    assert profile_from_results([results / "tiny-int8.json"]).capacity > 25


def test_models_are_planned_apart() -> None:
    requests = question().requests
    mixed: list[Request] = [replace(each, model="small" if each.id % 2 else "large") for each in requests]
    answer = plan(question(requests=mixed, profiles={"small": PROFILE, "large": replace(PROFILE, streams=4, gpu=1.0)}))
    assert set(answer.options[0].replicas) == {"small", "large"}
