"""The schedule is fixed by its seed; objectives are judged by what a client saw; a limit is found and told honestly."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.serve_load.generators import GeneratorError, Sent, Target, run
from benchmarks.serve_load.judgement import judge
from benchmarks.serve_load.outcome import Outcome, Result, result_of
from benchmarks.serve_load.plan import PlanError, Planned, Workload, build
from benchmarks.serve_load.result import evaluate
from benchmarks.serve_load.saturation import find_max
from benchmarks.serve_load.statistics import Share
from dashboards.objectives import load_objectives

OBJECTIVES = load_objectives()
MIXED = Workload(
    "poisson",
    20.0,
    60.0,
    tiers={"enterprise": 1, "free": 3},
    models={"tiny": 1},
    modes={"stream": 3, "async": 1},
    lengths_s={2.0: 1, 8.0: 1},
    faults={"slow": 0.1, "duplicate": 0.1},
)


def test_a_schedule_is_fixed_by_its_seed() -> None:
    schedule = build(MIXED)
    assert schedule == build(MIXED)
    assert schedule.digest == build(MIXED).digest != build(replace(MIXED, seed=1)).digest
    shares = [schedule.share(index, 3) for index in range(3)]
    assert sorted((each for share in shares for each in share), key=lambda each: each.number) == list(schedule.requests)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_mix_is_as_asked_for_and_independent_of_the_rate() -> None:
    requests = build(MIXED).requests
    count = len(requests)
    assert sum(each.tier == "free" for each in requests) / count == pytest.approx(0.75, abs=0.05)
    assert sum(each.fault == "slow" for each in requests) / count == pytest.approx(0.1, abs=0.03)
    assert {each.mode for each in requests if each.fault == "slow"} == {"stream"}
    slower = build(replace(MIXED, rate=10.0)).requests
    for mine, theirs in zip(requests, slower, strict=False):
        assert replace(mine, at_s=0.0) == replace(theirs, at_s=0.0)


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        (replace(MIXED, rate=1e-6), "nobody comes within 60 s"),
        (replace(MIXED, rate=None), "needs a rate"),
        (replace(MIXED, profile="trace"), "needs a file"),
        (replace(MIXED, cv=2.0), "'conversation' and 'code' only"),
        (replace(MIXED, profile="code", cv=0.5), "a CV above 1"),
        (replace(MIXED, faults={"slow": 0.6, "storm": 0.6}), "add up to 1.2"),
    ],
)
def test_what_is_no_load_is_refused(workload: Workload, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        build(workload)


def test_a_trace_is_a_profile(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("arrival_s\n0\n1\n2\n30\n")
    schedule = build(replace(MIXED, profile="trace", rate=None, trace=file))
    assert [each.at_s for each in schedule.requests] == [0.0, 1.0, 2.0, 30.0]


# --------------------------------------------------------------------------------------------------------- judgement


def outcome(result: Result = "completed", mode: Any = "stream", tier: str = "pro", **changes: Any) -> Outcome:
    planned = Planned(0, changes.pop("at_s", 5.0), tier, 0, None, mode, 4.0, "x", 0, changes.pop("fault", None))
    heard = {"first_audio_s": 0.2, "stall_s": 0.0, "is_valid": True} if mode == "stream" else {}
    return Outcome(planned, result, **{"took_s": 1.0, "audio_s": 4.0, **heard, **changes})


def judged(**changes: Any) -> dict[str, bool]:
    return judge(outcome(**changes), OBJECTIVES)


def test_each_level_is_judged_where_it_applies() -> None:
    within_s = OBJECTIVES.threshold("ttfa", "pro")
    assert within_s is not None
    good = {"admission": True, "success": True, "ttfa": True, "continuity": True, "validity": True}
    assert judged() == good
    assert judged(first_audio_s=within_s + 0.01) == {**good, "ttfa": False}
    assert judged(stall_s=9.0) == {**good, "continuity": False}
    assert judged(is_valid=False) == {**good, "validity": False}
    assert judged(result="refused") == {"admission": False}
    assert judged(result="rate_limited") == judged(result="invalid") == judged(fault="slow") == {}
    never = {"first_audio_s": None, "stall_s": None, "is_valid": None}
    assert judged(result="failed", **never) == {"admission": True, "success": False}
    assert judged(result="timeout", took_s=100.0, **never) == {"admission": True, "success": False, "ttfa": False}
    assert judged(result="cancelled", **never) == {"admission": True}


def test_jobs_have_a_deadline() -> None:
    due_s = OBJECTIVES.deadline("pro", 4.0)
    assert judged(mode="async") == {"admission": True, "success": True, "deadline": True}
    assert judged(mode="wait", took_s=due_s + 0.1)["deadline"] is False
    assert judged(mode="async", result="failed", took_s=due_s - 0.1) == {"admission": True, "success": False}
    assert judged(mode="async", result="failed", took_s=due_s + 0.1)["deadline"] is False


def test_answers_are_told_apart() -> None:
    assert result_of(429, "quota_exceeded") == "rate_limited"
    assert result_of(503, "system_overloaded") == "refused"
    assert result_of(503, "model_unavailable") == result_of(500, "internal_error") == "failed"
    assert result_of(422, "invalid_parameter") == "invalid"


# ------------------------------------------------------------------------------------------------------------- result


def evaluated(outcomes: list[Outcome], warm_up_s: float = 1.0) -> dict[str, Any]:
    schedule = replace(build(replace(MIXED, duration_s=11.0)), duration_s=11.0)
    return evaluate(schedule, Sent(tuple(outcomes), (0.001,), 12.0), OBJECTIVES, warm_up_s=warm_up_s)


def test_what_is_counted() -> None:
    found = evaluated([
        outcome(),
        outcome(at_s=0.5),  # before the end of the warm-up
        outcome(fault="slow", result="failed", code="truncated"),
        outcome(result="refused", code="system_overloaded", tier="free", audio_s=0.0, first_audio_s=None, stall_s=None),
        outcome(stall_s=5.0),
        outcome(mode="async"),
    ])  # fmt: skip
    total = found["total"]
    assert (total["sent"], total["completed"], total["refused"], total["good"]) == (4, 3, 1, 2)
    assert total["good_audio_s_per_s"] == pytest.approx(2 * 4.0 / 10.0)
    assert total["offered_audio_s_per_s"] == pytest.approx(4 * 4.0 / 10.0)
    assert (total["stall_free"]["good"], total["stall_free"]["total"]) == (1, 2)
    assert [(group["tier"], group["mode"], group["sent"]) for group in found["groups"]] == [
        ("free", "stream", 1), ("pro", "async", 1), ("pro", "stream", 2),
    ]  # fmt: skip
    assert found["faults"] == {"slow": {"sent": 1, "failed": 1, "retries": 0, "broken_promises": 0}}
    assert found["errors"] == {"failed: truncated": 1, "refused: system_overloaded": 1}
    assert len(found["requests"]["at_s"]) == 6
    assert found["requests"]["missed"][4] == ["continuity"]
    assert found["verdict"] == "fail"  # one in two stalls, and one in four is refused


def test_a_late_generator_makes_the_run_invalid() -> None:
    assert evaluated([outcome() for _ in range(99)])["generator"]["valid"]
    late = evaluated([outcome(lag_s=0.0101) for _ in range(2)] + [outcome() for _ in range(98)])
    assert (late["verdict"], late["generator"]["valid"]) == ("invalid", False)
    assert evaluated([outcome(lag_s=1.0)] + [outcome() for _ in range(99)])["verdict"] != "invalid"
    assert evaluated([outcome(lag_s=1.0)] + [outcome() for _ in range(20)])["verdict"] != "invalid"
    assert evaluated([outcome(lag_s=1.0) for _ in range(2)] + [outcome() for _ in range(20)])["verdict"] == "invalid"


def test_a_broken_promise_fails_the_run() -> None:
    assert evaluated([outcome(), outcome(broken="two generations under one Idempotency-Key")])["verdict"] == "fail"


def test_a_generator_that_dies_is_told() -> None:
    nowhere = Target("no address", {"enterprise": [None], "free": [None]}, 1.0)
    with pytest.raises(GeneratorError, match="ended early with exit code 1"):
        run(build(MIXED), nowhere, 2)


def test_processes_merge_to_the_whole_schedule() -> None:
    """Nobody listens there: every request fails, each has its outcome, in the schedule's order."""
    schedule = build(replace(MIXED, duration_s=0.5))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        seen: list[int] = []
        target = Target(url, {"enterprise": [None], "free": [None]}, 5.0)
        sent = run(schedule, target, 3, lambda outcomes, _: seen.append(len(outcomes)))
    assert [each.planned for each in sent.outcomes] == list(schedule.requests)
    assert {(each.result, each.code) for each in sent.outcomes} == {("failed", "ConnectionRefusedError")}
    assert seen[-1] == len(schedule.requests)


# --------------------------------------------------------------------------------------------------------- saturation


def trial(rate: float, good: int, total: int, verdict: str | None = None) -> dict[str, Any]:
    """A run of which one level is known."""
    share = Share(good, total)
    line = {"tier": "pro", "sli": "ttfa", "objective": 0.9, "verdict": share.verdict(0.9), **share.as_dict()}
    audio = dict.fromkeys(("offered_audio_s_per_s", "audio_s_per_s", "good_audio_s_per_s"), rate)
    counts = {"sent": total, "completed": total, "refused": 0, "ttfa_s": None, "stall_free": share.as_dict()}
    return {
        "verdict": verdict or line["verdict"],
        "objectives": [line],
        "broken_promises": [],
        "total": {**audio, **counts},
    }


@given(st.floats(0.3, 300), st.floats(0.5, 50))
def test_the_limit_is_found_wherever_it_is(limit: float, start: float) -> None:
    search = find_max(
        lambda rate, _: trial(rate, 1000 if rate <= limit else 0, 1000), start, max_trials=40, precision=0.05
    )
    assert search.met <= limit < search.missed <= 1.05 * search.met
    assert search.verdict == "pass"
    assert search.as_dict()["max_good_audio_s_per_s"] == search.met


def test_small_samples_are_made_twice_and_told() -> None:
    rates: list[float] = []

    def run(rate: float, attempt: int) -> dict[str, Any]:
        assert attempt == rates.count(rate)
        rates.append(rate)
        return trial(rate, 20, 20) if rate <= 4 else trial(rate, 0, 20)

    search = find_max(run, 4.0, max_trials=20, precision=0.5)
    assert rates[:3] == [4.0, 4.0, 8.0]  # twice 20 of 20 passes 90 %
    assert (search.met, search.verdict) == (4.0, "pass")
    few = find_max(lambda rate, _: trial(rate, 5 if rate <= 4 else 0, 5), 4.0, max_trials=20, precision=0.5)
    assert (few.met, few.verdict) == (4.0, "unresolved")


def test_a_search_that_finds_nothing() -> None:
    assert find_max(lambda rate, _: trial(rate, 0, 100), 4.0, max_trials=5, precision=0.1).verdict == "fail"
    ended = find_max(lambda rate, _: trial(rate, 100, 100), 4.0, max_trials=3, precision=0.1)
    assert (ended.met, ended.stopped, ended.verdict) == (16.0, "trials", "unresolved")
    late = find_max(
        lambda rate, _: trial(rate, 100, 100, "invalid" if rate > 5 else None), 4.0, max_trials=9, precision=0.1
    )
    assert (late.missed_by, late.verdict) == ("generator", "unresolved")
    assert late.met <= 5 < late.missed
