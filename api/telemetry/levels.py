"""Attainment and error budget from counts of events: arithmetic."""

from __future__ import annotations

from datetime import datetime

from api.schemas.slo import ErrorBudget, ServiceLevel, ServiceLevels, WindowAttainment
from api.telemetry.budget import WINDOWS, Attainment
from api.telemetry.catalogue import SLIS, TIERS
from api.telemetry.decisions import Objectives
from api.telemetry.tally import Count

BUDGET_WINDOW = max(WINDOWS, key=lambda name: WINDOWS[name])
_NONE = Count()


def service_levels(found: Attainment, promised: Objectives, now: datetime) -> ServiceLevels:
    """Of every SLI and tier, also those without events."""
    return ServiceLevels(
        as_of=now,
        service_levels=[_level(sli, tier, found, promised) for sli in SLIS for tier in TIERS],
    )


def _level(sli: str, tier: str, found: Attainment, promised: Objectives) -> ServiceLevel:
    objective = promised.objective(sli, tier)
    counts = found.get((sli, tier), {})
    return ServiceLevel(
        sli=sli,
        tier=tier,
        objective=objective,
        threshold_s=promised.threshold(sli, tier),
        windows={name: _window(counts.get(name, _NONE), objective) for name in WINDOWS},
        error_budget=_budget(counts.get(BUDGET_WINDOW, _NONE), objective),
    )


def _window(count: Count, objective: float) -> WindowAttainment:
    total = count.good + count.bad
    if total == 0:
        return WindowAttainment(good=0, bad=0, attainment=None, burn_rate=None)
    bad_share = count.bad / total
    return WindowAttainment(
        good=count.good, bad=count.bad, attainment=count.good / total, burn_rate=bad_share / (1 - objective)
    )


def _budget(count: Count, objective: float) -> ErrorBudget:
    allowed = (count.good + count.bad) * (1 - objective)
    remaining = 1 - count.bad / allowed if allowed else None
    return ErrorBudget(window=BUDGET_WINDOW, allowed=allowed, spent=count.bad, remaining=remaining)
