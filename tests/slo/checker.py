"""Holds what Prometheus says against what the clients saw. Plain functions; every answer is a list of checks."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.slo.truth import OUTCOMES, Event, Heard, Span

TOLERANCE = 0.001
"""Share of the events by which a service level may differ from the truth."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        group: counters, quantiles, levels, panels, alerts.
        wanted, found: in words.
    """

    group: str
    subject: str
    wanted: str
    found: str
    passed: bool


Key = tuple[str, str, str]


def counters(all_heard: Iterable[Heard], told: Mapping[Key, float]) -> list[Check]:
    """Requests by tier, mode and outcome: exactly as many as clients sent.

    Args:
        told: the counter's values by (tier, mode, outcome).
    """
    seen: Counter[Key] = Counter((one.tier, one.mode, OUTCOMES[one.result]) for one in all_heard)
    return [
        Check("counters", " ".join(key), str(seen[key]), f"{told.get(key, 0):g}", seen[key] == told.get(key, 0))
        for key in sorted(set(seen) | {key for key, value in told.items() if value})
    ]


def quantiles(
    subject: str, values: Sequence[float], told: Mapping[float, float], bounds: Sequence[float]
) -> list[Check]:
    """Quantiles of a histogram: in the clients' own bucket, or in one beside it.

    Args:
        values: what clients measured.
        told: quantile → what Prometheus makes of it.
        bounds: upper bounds of the buckets.
    """
    ordered = sorted(values)
    checks = []
    for q, value in sorted(told.items()):
        true = ordered[min(len(ordered) - 1, math.ceil(q * len(ordered)) - 1)] if ordered else math.nan
        apart = abs(bisect_left(bounds, true) - bisect_left(bounds, value))
        passed = bool(ordered) and not math.isnan(value) and apart <= 1
        checks.append(Check("quantiles", f"{subject} p{100 * q:g}", f"{true:.3f} s", f"{value:.3f} s", passed))
    return checks


def levels(seen: Mapping[tuple[str, str], Sequence[Event]], told: Mapping[tuple[str, str], float]) -> list[Check]:
    """Share of good events, by service level and tier: as the clients would say, to 0.1 percentage points.

    Of fewer than 1,000 events a single one is more than that: then one may be judged otherwise, at the very threshold.
    """
    checks = []
    for key, events in sorted(seen.items()):
        if not events:
            continue
        true = 1 - sum(event.is_bad for event in events) / len(events)
        value = told.get(key, math.nan)
        passed = abs(value - true) <= max(TOLERANCE, 1 / len(events)) + 1e-9
        wanted = f"{100 * true:.3f} % of {len(events)}"
        checks.append(Check("levels", " ".join(key), wanted, f"{100 * value:.3f} %", passed))
    return checks


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of one service level, when it fired and when clients' truth says that it should have."""

    name: str
    fired: Sequence[Span]
    due: Sequence[Span]


def alerts(watched: Iterable[Alert], slack_s: float) -> list[Check]:
    """Every alert fires when it should and at no other time. At the edges Prometheus may be ``slack_s`` early or late.

    A stretch shorter than the slack may be missed: between two looks it is no stretch.
    """
    checks = []
    for alert in watched:
        wrong = [f"fired {_text(span)}" for span in alert.fired if not _any_near(span, alert.due, slack_s)]
        missed = [span for span in alert.due if span.end - span.start > slack_s]
        wrong += [f"silent {_text(span)}" for span in missed if not _any_near(span, alert.fired, 0.0)]
        if alert.fired or alert.due:
            due = ", ".join(map(_text, alert.due)) or "silence"
            fired = ", ".join(map(_text, alert.fired)) or "silence"
            checks.append(Check("alerts", alert.name, due, fired, not wrong))
    return checks


@dataclass(frozen=True, slots=True)
class Fault:
    """What was broken and when, and the alert that has to tell.

    Attributes:
        span: of the fault.
        alert: its name, tier and window, for the report.
        fired: when it did.
        due: when the clients' truth says that it should have.
        short_s: the alert's short window: so long after the last bad event it must be silent.
        last_bad_at: of the events behind it.
    """

    name: str
    span: Span
    alert: str
    fired: Sequence[Span]
    due: Sequence[Span]
    short_s: float
    last_bad_at: float


def faults(injected: Iterable[Fault], slack_s: float) -> list[Check]:
    """The right alert fires within its computed time of each fault, and clears when the short window is clean."""
    checks = []
    for fault in injected:
        since = fault.span.start
        due = next((span.start for span in fault.due if span.end >= since), None)
        fired = next((span for span in fault.fired if span.end >= since and span.start >= since - slack_s), None)
        wanted = "a fault that hurts" if due is None else f"fires {due - since:.1f} s after the fault, ± {slack_s:g} s"
        found = "silence" if fired is None else f"fired after {fired.start - since:.1f} s"
        passed = due is not None and fired is not None and abs(fired.start - due) <= slack_s
        checks.append(Check("faults", f"{fault.name}: {fault.alert} fires", wanted, found, passed))
        clear_by = fault.last_bad_at + fault.short_s + slack_s
        ended = max((span.end for span in fault.fired), default=None)
        told = "never fired" if ended is None else f"cleared after {ended - fault.span.end:.1f} s"
        wanted = f"within {clear_by - fault.span.end:.1f} s of the fault's end"
        cleared = ended is not None and ended <= clear_by
        checks.append(Check("faults", f"{fault.name}: {fault.alert} clears", wanted, told, cleared))
    return checks


def quiet(fired: Mapping[str, Sequence[Span]], span: Span) -> list[Check]:
    """Nothing fires while nothing is broken."""
    loud = [name for name, spans in sorted(fired.items()) if any(span.near(each, 0.0) for each in spans)]
    return [Check("alerts", "without a fault", "silence", ", ".join(loud) or "silence", not loud)]


def _any_near(span: Span, others: Iterable[Span], slack_s: float) -> bool:
    return any(span.near(other, slack_s) for other in others)


def _text(span: Span) -> str:
    return f"{span.start % 100_000:.1f}–{span.end % 100_000:.1f}"
