"""A test for ``promtool test rules`` of the budget: events count, not hours."""

from __future__ import annotations

from typing import Any

from dashboards.durations import duration, seconds
from dashboards.openslo import Specification
from dashboards.promql import number
from dashboards.promtool import Phase, counters
from dashboards.recording import TILE, ratio_series
from dashboards.timescale import TimeScale

_BUSY, _QUIET = Phase(96, 100, 0), Phase(24, 0, 1)
"""At two steps per tile: four busy hours without a fault, then a quiet one in which every request fails."""


def budget_test(specification: Specification, scale: TimeScale) -> dict[str, Any]:
    """The quiet hour weighs what its few requests weigh; a mean of ratios would call it a fifth."""
    slo = next(slo for slo in specification.slos if slo.budget < 0.01)
    step_s = seconds(TILE) / 2 / scale.factor
    bad, good = _QUIET.steps * _QUIET.bad, _BUSY.steps * _BUSY.good
    share = bad / (bad + good)
    groups = ["slo-objectives", f"slo-{TILE}", "slo-budget"]
    end = duration((_BUSY.steps + _QUIET.steps) * step_s)
    return {
        "rule_files": [f"../{group}.yml" for group in groups],
        "evaluation_interval": duration(step_s),
        "group_eval_order": groups,
        "tests": [
            {
                "name": "a quiet hour of failures after four busy ones without",
                "interval": duration(step_s),
                "input_series": counters([slo], [_BUSY, _QUIET]),
                "promql_expr_test": [
                    _close(ratio_series(specification.window), share, end),
                    _close("slo:period_error_budget_remaining:ratio", 1 - share / slo.budget, end),
                    _close("slo:current_burn_rate:ratio", 1 / slo.budget, end),
                ],
            }
        ],
    }


def _close(series: str, expected: float, time: str) -> dict[str, Any]:
    """To a thousandth of the value."""
    expression = f"count(abs({series} / {number(expected)} - 1) < 0.001)"
    return {"expr": expression, "eval_time": time, "exp_samples": [{"labels": "{}", "value": 1}]}
