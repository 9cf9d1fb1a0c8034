"""What a panel shows, asked of Prometheus: its queries with the variables filled in, and the answers or the error."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dashboards.builder.grafana_panels import is_instant
from dashboards.builder.model import COLUMNS, Dashboard, Heatmap, Panel, Target
from dashboards.preview.prometheus import Prometheus, PrometheusError, Series, Window

POINTS: Final = 480
"""Over the whole width of a page: about one value every three pixels."""
MOST_CELLS: Final = 64
"""Columns of a heatmap over half a page."""
_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)
_VARIABLE = re.compile(r"\$(\w+)")


@dataclass(frozen=True, slots=True)
class Choice:
    """What is looked at.

    Attributes:
        variables: a regular expression per variable; what is not named matches everything.
        start, end: unix seconds.
        scrape_interval_s: of the server.
    """

    variables: Mapping[str, str]
    start: float
    end: float
    scrape_interval_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """To one query: its series, their exemplars, or what went wrong."""

    target: Target
    series: tuple[Series, ...] = ()
    exemplars: tuple[Series, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert that fired for a while: from ``start`` to ``end`` in unix seconds."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Filled:
    """A panel with its answers."""

    panel: Panel
    window: Window
    answers: tuple[Answer, ...]

    @property
    def errors(self) -> list[str]:
        """What went wrong, each once."""
        return list(dict.fromkeys(answer.error for answer in self.answers if answer.error))

    @property
    def is_empty(self) -> bool:
        """No query brought a single number."""
        values = (value for answer in self.answers for each in answer.series for _, value in each.points)
        return all(math.isnan(value) for value in values)


def window_of(panel: Panel, choice: Choice) -> Window:
    """The panel's window: round steps, so that a value stands for the same moments however often one looks."""
    points = POINTS * panel.width / COLUMNS
    if isinstance(panel, Heatmap):
        points = MOST_CELLS * panel.width * 2 / COLUMNS
    wanted = max((choice.end - choice.start) / points, choice.scrape_interval_s)
    step = next((step for step in _STEPS if step >= wanted), math.ceil(wanted / 86400) * 86400)
    return Window(math.floor(choice.start / step) * step, math.floor(choice.end / step) * step, step)


def substitute(expr: str, choice: Choice, step_s: float) -> str:
    """A query with its variables filled in, as Grafana does it.

    Raises:
        KeyError: it has a variable that is none of the dashboard's.
    """
    interval = choice.scrape_interval_s
    known = {
        **choice.variables,
        "__interval": _duration(step_s),
        "__range": _duration(choice.end - choice.start),
        "__rate_interval": _duration(max(step_s + interval, 4 * interval)),
    }
    return _VARIABLE.sub(lambda found: known[found[1]], expr)


def ask(server: Prometheus, panel: Panel, choice: Choice) -> Filled:
    """All of a panel's queries. Errors come back as text, beside the answers to the other queries."""
    window = window_of(panel, choice)
    return Filled(panel, window, tuple(_answer(server, panel, target, choice, window) for target in panel.targets))


def firing(server: Prometheus, choice: Choice) -> list[Firing]:
    """The alerts that fired in what is shown, to be marked in every chart.

    Raises:
        PrometheusError: the server is away.
    """
    step = max((choice.end - choice.start) / POINTS, choice.scrape_interval_s)
    window = Window(choice.start, choice.end, step)
    found = server.query_range('max by (alertname) (ALERTS{alertstate="firing"})', window)
    return [
        Firing(each.labels.get("alertname", ""), first, last)
        for each in found
        for first, last in _stretches([at for at, _ in each.points], step)
    ]


def choose(dashboard: Dashboard, given: Mapping[str, str]) -> dict[str, str]:
    """A regular expression for each of a dashboard's variables: what was given, or everything."""
    return {variable.name: given.get(variable.name) or ".*" for variable in dashboard.variables}


def _answer(server: Prometheus, panel: Panel, target: Target, choice: Choice, window: Window) -> Answer:
    expr = substitute(target.expr, choice, window.step_s)
    try:
        series = server.query(expr, choice.end) if is_instant(panel) else server.query_range(expr, window)
        exemplars = server.exemplars(expr, window) if target.exemplar else []
    except PrometheusError as error:
        return Answer(target, error=str(error))
    return Answer(target, tuple(series), tuple(exemplars))


def _stretches(times: list[float], step: float) -> list[tuple[float, float]]:
    """Times that follow each other, as (first, last)."""
    found: list[tuple[float, float]] = []
    for at in times:
        if found and at - found[-1][1] <= 1.5 * step:
            found[-1] = (found[-1][0], at)
        else:
            found.append((at, at))
    return found


def _duration(duration_s: float) -> str:
    return f"{max(1, math.ceil(duration_s * 1000))}ms"
