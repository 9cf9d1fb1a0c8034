"""The checker of ``make slo-test`` on made-up figures: it must say no as well as yes."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dashboards.timescale import TimeScale
from tests.slo import checker, panels
from tests.slo.checker import Alert, Check, Fault
from tests.slo.report import Report, as_markdown
from tests.slo.truth import Burn, Event, Heard, Promise, Span, events, stretches
from tests.slo.verdict import slack


def heard(tier: str = "pro", mode: str = "stream", result: Any = "completed", **more: Any) -> Heard:
    given: dict[str, Any] = {"ended_at": 0.0, "took_s": 1.0, "audio_s": 2.0, "first_audio_s": 0.2, "stall_s": 0.0}
    return Heard(tier=tier, mode=mode, result=result, **{**given, **more})


def failed(checks: list[Check]) -> list[str]:
    return [check.subject for check in checks if not check.passed]


# -------------------------------------------------------------------------------------------- the clients' truth
@pytest.mark.parametrize(
    ("sli", "one", "good"),
    [
        ("ttfa", heard(first_audio_s=1.0), True),
        ("ttfa", heard(first_audio_s=1.01), False),
        ("ttfa", heard(mode="async"), None),
        ("ttfa", heard(result="failed", first_audio_s=None, took_s=0.5), None),
        ("ttfa", heard(result="failed", first_audio_s=None, took_s=1.5), False),
        ("continuity", heard(stall_s=1.1), False),
        ("continuity", heard(stall_s=None), None),
        ("success", heard(), True),
        ("success", heard(result="timeout"), False),
        ("success", heard(result="cancelled"), None),
        ("success", heard(result="refused"), None),
        ("admission", heard(result="refused"), False),
        ("admission", heard(result="failed"), True),
        ("admission", heard(result="invalid"), None),
        ("admission", heard(result="rate_limited"), None),
        ("admission", heard(tier="free", result="refused"), None),
        ("deadline", heard(mode="async", took_s=3.0), True),
        ("deadline", heard(mode="async", took_s=3.1), False),
        ("deadline", heard(mode="async", result="failed", took_s=3.1), False),
        ("deadline", heard(mode="async", result="failed", took_s=2.9), None),
        ("deadline", heard(), None),
    ],
)
def test_a_request_is_judged_as_the_service_levels_say(sli: str, one: Heard, good: bool | None) -> None:
    assert Promise(sli, "pro", threshold_s=1.0, per_audio_s=1.0).verdict(one) is good


def test_an_alert_is_due_while_both_windows_burn() -> None:
    """Two events a second; all are bad from 100 to 110. 1 % of 60 s are 1.2 events, and five are the least."""
    burn = Burn(limit=0.01, long_s=60.0, short_s=5.0, minimum_bad=5)
    seen = [Event(number / 2, 100 <= number / 2 < 110) for number in range(400)]
    (span,) = burn.spans(seen, 0.0, 200.0, 0.5)
    assert span.start == pytest.approx(102.0)  # the fifth bad event
    assert span.end == pytest.approx(114.0)  # the short window holds the last one until 114.5
    assert burn.spans([Event(each.at, is_bad=False) for each in seen], 0.0, 200.0, 0.5) == []


def test_events_are_in_the_order_of_their_ends() -> None:
    ended = [heard(ended_at=3.0), heard(ended_at=1.0, first_audio_s=9.0), heard(ended_at=2.0, mode="async")]
    assert events(Promise("ttfa", "pro", 1.0), ended) == [Event(1.0, is_bad=True), Event(3.0, is_bad=False)]


def test_stretches_bridge_a_single_gap_only() -> None:
    assert list(stretches([1.0, 1.5, 2.5, 5.0], lambda _: True, 0.5)) == [Span(1.0, 2.5), Span(5.0, 5.0)]
    assert list(stretches([1.0, 2.0], lambda _: False, 0.5)) == []


# -------------------------------------------------------------------------------------------------- the checks
def test_counters_must_be_equal_both_ways() -> None:
    seen = [heard(), heard(), heard(result="refused")]
    right = {("pro", "stream", "completed"): 2.0, ("pro", "stream", "rejected_capacity"): 1.0}
    assert failed(checker.counters(seen, {**right, ("free", "async", "failed"): 0.0})) == []
    assert failed(checker.counters(seen, right | {("pro", "stream", "completed"): 1.0})) == ["pro stream completed"]
    assert failed(checker.counters(seen, right | {("free", "async", "failed"): 1.0})) == ["free async failed"]
    assert len(failed(checker.counters(seen, {}))) == 2


@pytest.mark.parametrize(
    ("told", "passes"), [(0.25, True), (0.35, True), (0.05, True), (0.45, False), (math.nan, False)]
)
def test_a_quantile_may_be_in_the_bucket_beside(told: float, passes: bool) -> None:
    (check,) = checker.quantiles("first audio", [0.15] * 9 + [0.9], {0.5: told}, (0.1, 0.2, 0.3, 0.4, 0.5))
    assert check.passed is (passes and told != 0.35)


def test_a_quantile_of_nothing_is_none() -> None:
    assert failed(checker.quantiles("first audio", [], {0.5: 0.1}, (0.1, 0.2))) == ["first audio p50"]


def test_levels_agree_to_a_tenth_of_a_percentage_point() -> None:
    many = {("ttfa", "pro"): [Event(0.0, number < 20) for number in range(2000)]}
    for value, passes in ((0.99, True), (0.9909, True), (0.9912, False), (math.nan, False)):
        (check,) = checker.levels(many, {("ttfa", "pro"): value})
        assert check.passed is passes, value
    few = {("ttfa", "pro"): [Event(0.0, number < 1) for number in range(20)]}
    assert failed(checker.levels(few, {("ttfa", "pro"): 1.0})) == []  # one event at the threshold
    assert failed(checker.levels(few, {("ttfa", "pro"): 0.85})) == ["ttfa pro"]
    assert failed(checker.levels(few, {})) == ["ttfa pro"]


def test_alerts_fire_when_they_should_and_at_no_other_time() -> None:
    due = [Span(100.0, 110.0)]
    assert failed(checker.alerts([Alert("a", [Span(101.0, 112.0)], due)], 3.0)) == []
    assert failed(checker.alerts([Alert("a", [], due)], 3.0)) == ["a"]
    assert failed(checker.alerts([Alert("a", [Span(101.0, 102.0), Span(150.0, 151.0)], due)], 3.0)) == ["a"]
    assert failed(checker.alerts([Alert("a", [], [Span(100.0, 102.0)])], 3.0)) == []  # too short to be seen
    assert checker.alerts([Alert("a", [], [])], 3.0) == []


def fault(**more: Any) -> Fault:
    given: dict[str, Any] = {
        "name": "x", "span": Span(100.0, 120.0), "alert": "a", "fired": [Span(106.0, 127.0)],
        "due": [Span(105.0, 125.0)], "short_s": 5.0, "last_bad_at": 121.0,
    }  # fmt: skip
    return Fault(**{**given, **more})


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({}, []),
        ({"fired": []}, ["fires", "clears"]),
        ({"fired": [Span(110.0, 127.0)]}, ["fires"]),
        ({"fired": [Span(99.0, 127.0)]}, ["fires"]),
        ({"fired": [Span(106.0, 140.0)]}, ["clears"]),
        ({"due": []}, ["fires"]),
    ],
)
def test_the_right_alert_comes_in_time_and_goes(given: dict[str, Any], wrong: list[str]) -> None:
    assert failed(checker.faults([fault(**given)], 3.0)) == [f"x: a {each}" for each in wrong]


def test_without_a_fault_nothing_may_fire() -> None:
    fired = {"TuttiDown": [Span(50.0, 60.0)], "later": [Span(200.0, 210.0)]}
    assert failed(checker.quiet(fired, Span(0.0, 100.0))) == ["without a fault"]
    assert failed(checker.quiet(fired, Span(70.0, 100.0))) == []


def test_every_committed_dashboard_is_looked_at() -> None:
    found = panels.queries()
    assert len({query.dashboard for query in found}) == 7
    assert len(found) > 100
    assert all(query.expr for query in found)
    assert any("tier" in query.labels for query in found)


def test_the_slack_grows_with_the_scrapes() -> None:
    assert slack(TimeScale(60.0)) < slack(TimeScale(10.0))


def test_a_report_says_what_failed() -> None:
    checks = (Check("panels", "engine / Rows", "a | b", "nothing", False), Check("counters", "pro", "1", "1", True))
    report = Report(60.0, 2.0, 30.0, 60, ("overload",), (), checks)
    text = as_markdown(report)
    assert "FAILED: 1 of 2 checks" in text
    assert "| ✗ | engine / Rows | a \\| b | nothing |" in text
    assert "## Queries of the dashboards: 0 of 1" in text
