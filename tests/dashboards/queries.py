"""What a PromQL expression asks for: its series, their matchers, the labels it groups by."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import promql_parser as promql

from dashboards.builder.model import Dashboard, Panel, Target
from dashboards.preview.data import Choice, choose, substitute


@dataclass(frozen=True)
class Selector:
    """One series name in an expression.

    Attributes:
        matchers: label, operator ("=", "!=", "=~" or "!~") and value.
        around: aggregations around it, the innermost first: operator and the labels it groups by.
    """

    name: str
    matchers: tuple[tuple[str, str, str], ...]
    around: tuple[tuple[str, tuple[str, ...]], ...] = field(default=())


def filled(dashboard: Dashboard, target: Target) -> str:
    """The expression as it is sent, with everything chosen."""
    return substitute(target.expr, Choice(choose(dashboard, {}), 0.0, 900.0, 1.0), 5.0)


def targets(dashboards: tuple[Dashboard, ...]) -> Iterator[tuple[Dashboard, Panel, Target]]:
    """Every query of every panel."""
    for dashboard in dashboards:
        for panel in dashboard.panels():
            for target in panel.targets:
                yield dashboard, panel, target


def selectors(expr: str) -> list[Selector]:
    """Of an expression without variables.

    Raises:
        ValueError: it is no PromQL.
    """
    return list(_walk(promql.parse(expr), ()))


def grouped_by(expr: str) -> set[str]:
    """The labels of the outermost aggregation: those that the result has."""
    found: set[str] = set()
    for selector in selectors(expr):
        grouping = [labels for operator, labels in selector.around if operator != "topk"]
        if grouping:
            found |= set(grouping[-1])
    return found


def _walk(expr: promql.Expr, around: tuple[tuple[str, tuple[str, ...]], ...]) -> Iterator[Selector]:
    if isinstance(expr, promql.AggregateExpr):
        labels = tuple(expr.modifier.labels) if expr.modifier else ()
        yield from _walk(expr.expr, ((str(expr.op), labels), *around))
    elif isinstance(expr, promql.BinaryExpr):
        yield from _walk(expr.lhs, around)
        yield from _walk(expr.rhs, around)
    elif isinstance(expr, promql.Call):
        for argument in expr.args:
            yield from _walk(argument, around)
    elif isinstance(expr, promql.MatrixSelector):
        yield _selector(expr.vector_selector, around)
    elif isinstance(expr, promql.VectorSelector):
        yield _selector(expr, around)
    elif isinstance(expr, promql.ParenExpr | promql.UnaryExpr | promql.SubqueryExpr):
        yield from _walk(expr.expr, around)


def _selector(found: promql.VectorSelector, around: tuple[tuple[str, tuple[str, ...]], ...]) -> Selector:
    matchers = tuple((each.name, _operator(each), each.value) for each in found.matchers.matchers)
    assert found.name
    return Selector(found.name, matchers, around)


def _operator(matcher: promql.Matcher) -> str:
    operator = re.search(r"!=|=~|!~|=", str(matcher))
    assert operator
    return operator[0]
