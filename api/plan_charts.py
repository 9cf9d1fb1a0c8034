"""Charts of a capacity plan, drawn as the dashboards' are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import cycle, pairwise
from typing import Final

from autoscaling.simulator.course import Course
from dashboards.builder.look import Color, Style, Unit
from dashboards.builder.model import Target, TimeSeries
from dashboards.preview.data import Answer, Filled
from dashboards.preview.lines import Line, Points, line_chart, lines_of
from dashboards.preview.prometheus import Series, Window

HEIGHT: Final = 240
_HOUR_S: Final = 3600.0
_COLORS: Final = (Color.PURPLE, Color.ORANGE, Color.GREEN, Color.BLUE, Color.RED, Color.YELLOW)


def chart(title: str, means: str, course: Course, answers: Iterable[Answer], width: int, unit: Unit, low: float) -> str:
    """An article with lines over the hours of the traffic, and what they are.

    Args:
        width: of the chart, in pixels.
        low: where its axis begins.
    """
    given = tuple(answers)
    most = max(value for answer in given for series in answer.series for _, value in series.points)
    # Half a replica is no place for a line of the grid.
    high = 1.0 if unit is Unit.RATIO else max(4.0, most) if unit is Unit.COUNT and most <= 5 else None
    targets = tuple(answer.target for answer in given)
    panel = TimeSeries(title, means, means, targets, unit=unit, minimum=low, maximum=high)
    end = max(course.hours[-1], course.window_hours[-1] + course.window_hours[1]) * _HOUR_S
    filled = Filled(panel, Window(0.0, end, end), given)
    legend = "".join(dict.fromkeys(_legend(line) for line in lines_of(filled)))
    return (
        f"<article><h3>{escape(title)}</h3><p>{escape(means)}</p>{line_chart(filled, (), width, HEIGHT)}"
        f'<ul class="legend">{legend}</ul></article>'
    )


def _legend(line: Line) -> str:
    kind = ' class="bound"' if line.is_bound else ""
    return f'<li{kind} style="--c:var(--{line.color})">{escape(line.name)}</li>'


def replicas(policy: Course, fixed: Course) -> list[Answer]:
    """The policy's of each size, and the fixed number, dashed."""
    colors = dict(zip(policy.replicas, cycle(_COLORS), strict=False))
    return [
        *(_answer(model, steps(policy.hours, counts), colors[model]) for model, counts in policy.replicas.items()),
        *(
            _answer(f"{model}, fixed", steps(fixed.hours, counts), colors[model], Style.BOUND)
            for model, counts in fixed.replicas.items()
        ),
    ]


def gpus(policy: Course, fixed: Course) -> list[Answer]:
    return [
        _answer("policy", steps(policy.hours, policy.gpus), Color.PURPLE),
        _answer("fixed", steps(fixed.hours, fixed.gpus), Color.PURPLE, Style.BOUND),
    ]


def asked(course: Course) -> list[Answer]:
    return [_answer("asked for", steps(course.window_hours, course.asked_audio_s_per_s))]


def heard(course: Course, objectives: Mapping[str, float]) -> list[Answer]:
    """Each tier's share in each window, and what it was promised, dashed."""
    middle = (course.window_hours[1] - course.window_hours[0]) / 2
    found = []
    for tier, shares in course.heard.items():
        points = tuple(
            ((at + middle) * _HOUR_S, math.nan if share is None else share)
            for at, share in zip(course.window_hours, shares, strict=True)
        )
        found.append(_answer(tier, points))
        ends = (points[0][0], points[-1][0])
        found.append(_answer("promised", tuple((at, objectives[tier]) for at in ends), Color.SOFT, Style.BOUND))
    return found


def lowest(course: Course, objectives: Mapping[str, float]) -> float:
    """Where the axis of shares begins: a little under what is lowest, so that what is lacking can be seen."""
    shares = [share for windows in course.heard.values() for share in windows if share is not None]
    return max(0.0, math.floor(20 * min([*shares, *objectives.values()]) - 0.01) / 20)


def steps(hours: Sequence[float], values: Sequence[float]) -> Points:
    """A value holds until the next one."""
    points = [(hours[0] * _HOUR_S, float(values[0]))]
    for (_, before), (at, after) in pairwise(zip(hours, values, strict=True)):
        points += [(at * _HOUR_S, float(before)), (at * _HOUR_S, float(after))]
    return tuple(points)


def _answer(name: str, points: Points, color: Color | None = None, style: Style = Style.LINE) -> Answer:
    return Answer(Target("", name, color, style), (Series({}, points),))
