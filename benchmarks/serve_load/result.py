"""Outcomes become the report: counts, quantiles, objectives, goodput, and whether the run may be believed at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.api.arrivals import MAX_LAG_S
from benchmarks.serve_load.generators import Sent
from benchmarks.serve_load.judgement import Objectives, attainment, is_good, judge
from benchmarks.serve_load.outcome import RESULTS, Outcome
from benchmarks.serve_load.plan import Schedule
from benchmarks.serve_load.statistics import Share, quantile, summary, worst

SCHEMA = 1
"""Of the JSON line; goes up when a key changes its name or its meaning."""

_Judged = Sequence[tuple[Outcome, Mapping[str, bool]]]


def evaluate(
    schedule: Schedule, sent: Sent, objectives: Objectives, *, warm_up_s: float, target: float | None = None
) -> dict[str, Any]:
    """The figures of one run, and the requests that they come from under ``requests``.

    Args:
        warm_up_s: requests that were meant to be sent before this are sent and not looked at.
        target: instead of the objectives' own share of good events.
    """
    window_s = schedule.duration_s - warm_up_s
    measured = [each for each in sent.outcomes if each.planned.at_s >= warm_up_s]
    judged = [(each, judge(each, objectives)) for each in measured]
    lines = attainment(judged, objectives, target)
    generator = _generator(measured, sent.pulse_s)
    broken = [each.broken for each in sent.outcomes if each.broken is not None]
    verdict = "fail" if broken else worst([line["verdict"] for line in lines])
    return {
        "verdict": verdict if generator["valid"] else "invalid",
        "objectives": lines,
        "total": _figures(judged, window_s),
        "groups": _groups(judged, window_s),
        "faults": _faults(measured),
        "errors": dict(Counter(f"{each.result}: {each.code}" for each in measured if each.code).most_common(20)),
        "broken_promises": broken,
        "generator": generator,
        "window": {"warm_up_s": warm_up_s, "measured_s": window_s, "took_s": round(sent.took_s, 3)},
        "schedule": schedule.as_dict(),
        "requests": columns(sent.outcomes, objectives),
    }


def _figures(judged: _Judged, window_s: float) -> dict[str, Any]:
    """Of clients that behave."""
    honest = [(outcome, verdicts) for outcome, verdicts in judged if outcome.planned.fault is None]
    outcomes = [outcome for outcome, _ in honest]
    results = Counter(outcome.result for outcome in outcomes)
    played = [outcome.stall_s for outcome in outcomes if outcome.stall_s is not None]
    good_s = sum(outcome.audio_s for outcome, verdicts in honest if is_good(outcome, verdicts))
    return {
        "sent": len(outcomes),
        **{result: results[result] for result in RESULTS},
        "offered_audio_s_per_s": round(sum(outcome.planned.duration_s for outcome in outcomes) / window_s, 4),
        "audio_s_per_s": round(sum(outcome.audio_s for outcome in outcomes) / window_s, 4),
        "good_audio_s_per_s": round(good_s / window_s, 4),
        "good": sum(is_good(outcome, verdicts) for outcome, verdicts in honest),
        "ttfa_s": summary([each.first_audio_s for each in outcomes if each.first_audio_s is not None]),
        "took_s": summary([each.took_s for each in outcomes if each.result == "completed"]),
        "stall_free": Share(sum(stall_s == 0 for stall_s in played), len(played)).as_dict(),
        "stall_s": summary(played),
        "min_slack_s": summary([each.min_slack_s for each in outcomes if each.min_slack_s is not None]),
    }


def _groups(judged: _Judged, window_s: float) -> list[dict[str, Any]]:
    """By tier, model and mode, in the order in which they first came."""
    groups: dict[tuple[str, str, str], list[tuple[Outcome, Mapping[str, bool]]]] = {}
    for outcome, verdicts in judged:
        if outcome.planned.fault is None:
            key = (outcome.planned.tier, outcome.planned.model or "default", outcome.planned.mode)
            groups.setdefault(key, []).append((outcome, verdicts))
    return [
        {"tier": tier, "model": model, "mode": mode, **_figures(members, window_s)}
        for (tier, model, mode), members in sorted(groups.items())
    ]


def _faults(measured: Iterable[Outcome]) -> dict[str, Any]:
    """What clients that misbehave met with."""
    kinds: dict[str, list[Outcome]] = {}
    for outcome in measured:
        if outcome.planned.fault is not None:
            kinds.setdefault(outcome.planned.fault, []).append(outcome)
    return {
        kind: {
            "sent": len(members),
            **Counter(str(each.result) for each in members),
            "retries": sum(each.retries for each in members),
            "broken_promises": sum(each.broken is not None for each in members),
        }
        for kind, members in sorted(kinds.items())
    }


def _generator(measured: Sequence[Outcome], pulse_s: Sequence[float]) -> dict[str, Any]:
    """How late the generators were; a run whose p99 is above the limit has measured them and not the server.

    Of fewer than a hundred requests the p99 is the worst one: there a single late one is no reason yet.
    """
    lags = sorted(outcome.lag_s for outcome in measured)
    late = sum(lag_s > MAX_LAG_S for lag_s in lags)
    return {
        "valid": bool(lags) and late <= max(1, len(lags) // 100),
        "late": late,
        "send_lag_s": {"p50": quantile(lags, 0.5), "p99": quantile(lags, 0.99), "max": lags[-1]} if lags else None,
        "read_lag_s": summary(pulse_s),
        "limit_s": MAX_LAG_S,
    }


def columns(outcomes: Sequence[Outcome], objectives: Objectives) -> dict[str, list[Any]]:
    """Every request, one list per figure: what charts are drawn from, and what comparisons are drawn from."""
    planned = [outcome.planned for outcome in outcomes]
    verdicts = [judge(outcome, objectives) for outcome in outcomes]
    return {
        "at_s": [each.at_s for each in planned],
        "tier": [each.tier for each in planned],
        "model": [each.model for each in planned],
        "mode": [each.mode for each in planned],
        "fault": [each.fault for each in planned],
        "duration_s": [each.duration_s for each in planned],
        "result": [each.result for each in outcomes],
        "code": [each.code for each in outcomes],
        "lag_s": [round(each.lag_s, 6) for each in outcomes],
        "took_s": [round(each.took_s, 6) for each in outcomes],
        "ttfa_s": [_rounded(each.first_audio_s) for each in outcomes],
        "stall_s": [_rounded(each.stall_s) for each in outcomes],
        "min_slack_s": [_rounded(each.min_slack_s) for each in outcomes],
        "audio_s": [round(each.audio_s, 6) for each in outcomes],
        "is_good": [is_good(each, verdict) for each, verdict in zip(outcomes, verdicts, strict=True)],
        "missed": [[sli for sli, is_met in verdict.items() if not is_met] for verdict in verdicts],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
