"""Recording rules: how many events, how many of them bad, and what is left of the budget.

The series have the names and labels of Sloth (https://sloth.dev), so its dashboards work on them. Two things differ.
Ratios are event-weighted: events are summed before they are divided, so that a quiet hour weighs as little as it
should. And where nothing was asked for there is no value instead of NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dashboards.durations import seconds
from dashboards.openslo import Slo, Specification
from dashboards.promql import increase, number, or_zero, ratio
from dashboards.rules import Group, RecordingRule
from dashboards.timescale import SCRAPE_S, TimeScale

WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
TILE: Final = "5m"
"""The budget's window is paved with these: reading 30 days of every replica's samples anew each time is too dear."""

# Under the five minutes after which Prometheus forgets a sample.
_INTERVALS_S: Final = ((3600, SCRAPE_S), (21_600, 60.0), (float("inf"), 120.0))


def slo_id(specification: Specification, slo: Slo) -> str:
    """Sloth's name of an SLO across services."""
    return f"{specification.service}-{slo.name}"


def slo_labels(specification: Specification, slo: Slo) -> dict[str, str]:
    """Labels of every series and alert of an SLO."""
    return {
        "sloth_id": slo_id(specification, slo),
        "sloth_service": specification.service,
        "sloth_slo": slo.name,
        "sli": slo.sli,
        "tier": slo.tier,
    }


def ratio_series(window: str) -> str:
    """Sloth's name of the share of bad events in a window."""
    return f"slo:sli_error:ratio_rate{window}"


def bad_series(window: str) -> str:
    return f"slo:sli_bad:increase{window}"


def events_series(window: str) -> str:
    return f"slo:sli_events:increase{window}"


def recording_groups(specification: Specification, scale: TimeScale) -> Iterator[Group]:
    """Objectives first, then the events of every window, then the budget."""
    yield Group("slo-objectives", scale.wait(60), tuple(_objectives(specification)))
    for window in WINDOWS:
        interval_s = next(interval for longest, interval in _INTERVALS_S if seconds(window) <= longest)
        yield Group(f"slo-{window}", scale.wait(interval_s), tuple(_events(specification, window, scale)))
    yield Group("slo-budget", scale.wait(60), tuple(_budget(specification, scale)))


def _objectives(specification: Specification) -> Iterator[RecordingRule]:
    for slo in specification.slos:
        labels = slo_labels(specification, slo)
        yield RecordingRule("slo:objective:ratio", f"vector({number(slo.objective)})", labels)
        yield RecordingRule("slo:error_budget:ratio", f"vector({number(slo.budget)})", labels)
        yield RecordingRule("slo:time_period:days", f"vector({number(seconds(slo.window) / 86_400)})", labels)
        info = {**labels, "sloth_objective": number(slo.objective * 100), "sloth_spec": "openslo/v1"}
        yield RecordingRule("sloth_slo_info", "vector(1)", info)


def _events(specification: Specification, window: str, scale: TimeScale) -> Iterator[RecordingRule]:
    length = scale.window(window)
    for slo in specification.slos:
        labels = {**slo_labels(specification, slo), "sloth_window": window}
        yield RecordingRule(bad_series(window), or_zero(increase(slo.bad, length)), labels)
        yield RecordingRule(events_series(window), increase(slo.total, length), labels)
    yield RecordingRule(ratio_series(window), ratio(bad_series(window), events_series(window)))


def _budget(specification: Specification, scale: TimeScale) -> Iterator[RecordingRule]:
    window = specification.window
    paved = f"[{scale.window(window)}:{scale.window(TILE)}]"
    labels = {"sloth_window": window}
    yield RecordingRule(bad_series(window), f"sum_over_time({bad_series(TILE)}{paved})", labels)
    yield RecordingRule(events_series(window), f"sum_over_time({events_series(TILE)}{paved})", labels)
    yield RecordingRule(ratio_series(window), ratio(bad_series(window), events_series(window)))
    per_budget = "/ ignoring (sloth_window) slo:error_budget:ratio"
    yield RecordingRule("slo:current_burn_rate:ratio", f"{ratio_series(TILE)} {per_budget}")
    yield RecordingRule("slo:period_burn_rate:ratio", f"{ratio_series(window)} {per_budget}")
    yield RecordingRule("slo:period_error_budget_remaining:ratio", "1 - slo:period_burn_rate:ratio")
