"""A histogram over time as SVG: a column per moment, a row per bucket, darker where more fell in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from html import escape

from dashboards.builder.look import Unit
from dashboards.builder.model import Panel
from dashboards.preview.data import Filled
from dashboards.preview.figures import figure
from dashboards.preview.lines import BOTTOM, CHARACTER, RIGHT, TOP, Plane, time_axis

Cells = Mapping[tuple[int, float], float]


def heatmap(filled: Filled, width: int, height: int) -> str:
    """An ``<svg>`` of a panel that has data. Buckets without a value at either end are left out."""
    bounds, cells = _cells(filled)
    panel = filled.panel
    used = sorted({row for row, _ in cells})
    if not used:
        return ""
    shown = range(max(0, used[0] - 1), min(len(bounds), used[-1] + 2))
    labels = {row: _bound(bounds[row], panel.unit) for row in shown}
    left = 10 + CHARACTER * max(map(len, labels.values()))
    plane = Plane(left, width - RIGHT, TOP, height - BOTTOM, filled.window, 0, len(shown))
    parts = [*_rows(plane, labels), *_fill(plane, cells, shown, filled), *time_axis(plane, height)]
    name = escape(panel.title)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{name}"><title>{name}</title>'
        f"<desc>{escape(panel.means)}</desc>{''.join(parts)}</svg>"
    )


def _cells(filled: Filled) -> tuple[list[float], Cells]:
    """The buckets' upper bounds, and how many values fell into (bucket, time)."""
    series = {_upper(each.labels): each.points for answer in filled.answers for each in answer.series}
    bounds = sorted(series)
    below: dict[float, float] = {}
    cells: dict[tuple[int, float], float] = {}
    for row, bound in enumerate(bounds):
        for at, value in series[bound]:
            count = value - below.get(at, 0.0)  # buckets are cumulative
            below[at] = value
            if count > 1e-9:
                cells[row, at] = count
    return bounds, cells


def _upper(labels: Mapping[str, str]) -> float:
    return float(labels.get("le", "inf").replace("+Inf", "inf"))


def _bound(bound: float, unit: Unit) -> str:
    return "more" if math.isinf(bound) else f"≤ {figure(bound, unit)}"


def _rows(plane: Plane, labels: Mapping[int, str]) -> Iterator[str]:
    every = math.ceil(len(labels) / max(1, int((plane.bottom - plane.top) // 15)))
    for index, label in enumerate(labels.values()):
        if index % every == 0:
            y = plane.y(index + 0.5)
            yield f'<text class="tick value" x="{plane.left - 6:.1f}" y="{y + 3.5:.1f}">{escape(label)}</text>'


def _fill(plane: Plane, cells: Cells, shown: range, filled: Filled) -> Iterator[str]:
    most = max(cells.values())
    window = filled.window
    column = (plane.right - plane.left) * window.step_s / max(window.end - window.start, window.step_s)
    row_height = (plane.bottom - plane.top) / len(shown)
    for (row, at), count in cells.items():
        x = max(plane.left, plane.x(at) - column)
        box = f'x="{x:.1f}" y="{plane.y(row - shown.start + 1):.1f}" width="{max(1.0, column - 1):.1f}"'
        shade = 0.12 + 0.88 * math.sqrt(count / most)
        name = f"<title>{_count(count, filled.panel)}</title>"
        yield f'<rect class="cell" {box} height="{row_height - 1:.1f}" opacity="{shade:.2f}">{name}</rect>'


def _count(count: float, panel: Panel) -> str:
    return f"{figure(count, Unit.COUNT, 1)} of {escape(panel.title.lower())}"
