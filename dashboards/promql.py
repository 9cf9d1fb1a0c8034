"""Expressions of PromQL, put together from parts."""

from __future__ import annotations


def matched(metric: str, **labels: str) -> str:
    """A selector with equal labels: ``up{job="tutti"}``."""
    inside = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"{metric}{{{inside}}}"


def increase(selector: str, window: str) -> str:
    """Events of all series of a selector in a window; resets of counters are accounted for in each."""
    return f"sum(increase({selector}[{window}]))"


def or_zero(expression: str) -> str:
    """0 where a sum has nothing to add up: no bad event has ever been is not the same as unknown."""
    return f"{expression} or vector(0)"


def ratio(part: str, whole: str) -> str:
    """Nothing, and not NaN, where the whole is zero."""
    return f"{part} / ({whole} > 0)"


def number(value: float) -> str:
    """As people write it: 0.001, 14.4, 3."""
    return f"{value:.10f}".rstrip("0").rstrip(".")


def percent(value: float) -> str:
    """A share as people say it: 99.9 %."""
    return f"{number(round(value * 100, 6))} %"
