"""Lines over time as SVG: plain or stacked, with thresholds, alerts and single requests marked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Final

from dashboards.builder.look import Style
from dashboards.builder.model import TimeSeries
from dashboards.preview.colors import color_variable, line_colors
from dashboards.preview.data import Filled, Firing
from dashboards.preview.figures import figure, tick, ticks, time_ticks
from dashboards.preview.prometheus import Window

TOP, RIGHT, BOTTOM = 8, 12, 22
CHARACTER: Final = 6.4  # width of one of the axis' labels
MOST_EXEMPLARS: Final = 50

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A series to draw. ``floor`` is what it stands on when it is stacked: one value per point."""

    name: str
    color: str
    points: Points
    is_bound: bool = False
    floor: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Plane:
    """From values to pixels."""

    left: float
    right: float
    top: float
    bottom: float
    window: Window
    low: float
    high: float

    def x(self, at: float) -> float:
        span = max(self.window.end - self.window.start, 1e-9)
        share = (at - self.window.start) / span
        return self.left + (self.right - self.left) * min(1.0, max(0.0, share))

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.bottom - (self.bottom - self.top) * min(1.0, max(0.0, share))


def lines_of(filled: Filled) -> list[Line]:
    """The panel's series with names and colours, those without a number left out."""
    shown = [(a.target, each) for a in filled.answers for each in a.series if not math.isnan(each.last)]
    names = [legend(target.legend, each.labels) for target, each in shown]
    return [
        Line(name, color_variable(target.color) if target.color else color, each.points, target.style is Style.BOUND)
        for (target, each), name, color in zip(shown, names, line_colors(names), strict=True)
    ]


def legend(template: str, labels: object) -> str:
    """Grafana's ``{{label}}`` filled in; without a template the labels themselves."""
    known: dict[str, str] = dict(labels) if isinstance(labels, dict) else {}
    if not template:
        return ", ".join(value for name, value in sorted(known.items()) if name != "__name__") or "value"
    for name, value in known.items():
        template = template.replace(f"{{{{{name}}}}}", value)
    return template


def line_chart(filled: Filled, alerts: Sequence[Firing], width: int, height: int) -> str:
    """An ``<svg>`` of a panel that has data.

    Args:
        width, height: in pixels.
    """
    panel = filled.panel
    assert isinstance(panel, TimeSeries)
    lines = lines_of(filled)
    if panel.stacked:
        lines = _stacked(lines)
    low, high = _range(panel, lines)
    values = ticks(low, high, max(2, height // 48), panel.unit)
    low, high = min(low, values[0]), values[-1] if panel.maximum is None else high
    labels = [tick(value, panel.unit) for value in values if value <= high]
    left = 10 + CHARACTER * max(map(len, labels))
    plane = Plane(left, width - RIGHT, TOP, height - BOTTOM, filled.window, low, high)
    parts = [
        *_grid(plane, values, labels),
        *time_axis(plane, height),
        *_alerts(plane, alerts),
        *(part for line in reversed(lines) for part in _line(plane, line, _fill(panel, lines))),
        *_thresholds(plane, panel),
        *_exemplars(plane, filled),
    ]
    title = f"{panel.title}: {_spoken(panel, lines)}"
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(panel.title)}</title><desc>{escape(panel.means)}</desc>{''.join(parts)}</svg>"
    )


def _spoken(panel: TimeSeries, lines: Sequence[Line]) -> str:
    """For those who cannot see the lines: the newest values."""
    newest = (f"{line.name} {figure(line.points[-1][1], panel.unit)}" for line in lines[:12])
    return "newest values " + ", ".join(newest)


def _stacked(lines: Sequence[Line]) -> list[Line]:
    """Each line on top of those before it. Bounds are no parts of the sum."""
    heights: dict[float, float] = {}
    found = []
    for line in lines:
        if line.is_bound:
            found.append(line)
            continue
        floor, points = [], []
        for at, value in line.points:
            below = heights.get(at, 0.0)
            heights[at] = below + (0.0 if math.isnan(value) else value)
            floor.append(below)
            points.append((at, heights[at]))
        found.append(replace(line, points=tuple(points), floor=tuple(floor)))
    return found


def _range(panel: TimeSeries, lines: Sequence[Line]) -> tuple[float, float]:
    """Of the axis: what is given, what the values need, and the thresholds that are near."""
    values = [value for line in lines for _, value in line.points if math.isfinite(value)]
    high = max(values, default=1.0)
    low = min(values, default=0.0)
    if panel.threshold_lines:
        bounds = [step.above for step in panel.thresholds if step.above is not None]
        high = max([high, *(bound * 1.05 for bound in bounds if bound <= 1.6 * high)])
    low = low if panel.minimum is None else panel.minimum
    high = high if panel.maximum is None else panel.maximum
    if high <= low:
        spread = abs(high) * 0.1 or 1.0
        return (high - spread, high) if panel.maximum is not None else (low, low + spread)
    return low, high


def _grid(plane: Plane, values: Sequence[float], labels: Sequence[str]) -> Iterator[str]:
    for value, label in zip(values, labels, strict=False):
        y = plane.y(value)
        yield f'<line class="grid" x1="{plane.left:.1f}" x2="{plane.right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick value" x="{plane.left - 6:.1f}" y="{y + 3.5:.1f}">{escape(label)}</text>'


def time_axis(plane: Plane, height: int) -> Iterator[str]:
    count = max(2, int((plane.right - plane.left) // 80))
    for at, label in time_ticks(plane.window.start, plane.window.end, count):
        x = plane.x(at)
        yield f'<line class="grid faint" x1="{x:.1f}" x2="{x:.1f}" y1="{plane.top}" y2="{plane.bottom}"/>'
        if plane.left + 14 <= x <= plane.right - 8:
            yield f'<text class="tick time" x="{x:.1f}" y="{height - 6}">{label}</text>'


def _alerts(plane: Plane, alerts: Sequence[Firing]) -> Iterator[str]:
    """A tint wherever any fires, and a bar of its own below for each."""
    reached = -math.inf
    for alert in sorted(alerts, key=lambda each: each.start):
        begin, right = plane.x(alert.start), plane.x(alert.end)
        left = max(begin, reached)
        if right > left:
            tint = f'x="{left:.1f}" width="{right - left:.1f}" y="{plane.top}" height="{plane.bottom - plane.top:.1f}"'
            yield f'<rect class="firing" {tint}/>'
        reached = max(reached, right)
        box = f'x="{begin:.1f}" width="{max(2.0, right - begin):.1f}" y="{plane.bottom - 1.5:.1f}" height="3"'
        yield f'<rect class="fires" {box}><title>{escape(alert.name)} fires</title></rect>'


def _fill(panel: TimeSeries, lines: Sequence[Line]) -> str:
    """The class of the areas below lines: of a stack all, else that of one line alone."""
    alone = sum(not line.is_bound for line in lines) == 1
    return "area stacked" if panel.stacked else "area" if alone else ""


def _line(plane: Plane, line: Line, fill: str) -> Iterator[str]:
    style = f'style="--c:var(--{line.color})"'
    name = f"<title>{escape(line.name)}</title>"
    for part in _unbroken(line, plane.window.step_s):
        upper = [f"{plane.x(at):.1f} {plane.y(value):.1f}" for at, value, _ in part]
        if fill and not line.is_bound and len(part) > 1:
            lower = [f"{plane.x(at):.1f} {plane.y(below):.1f}" for at, _, below in reversed(part)]
            yield f'<path class="{fill}" {style} d="M{"L".join(upper + lower)}Z">{name}</path>'
        kind = "bound" if line.is_bound else "line"
        if len(part) == 1:
            x, y = upper[0].split()
            yield f'<circle class="dot" {style} cx="{x}" cy="{y}" r="2.5">{name}</circle>'
        else:
            yield f'<path class="{kind}" {style} d="M{"L".join(upper)}">{name}</path>'


def _unbroken(line: Line, step_s: float) -> Iterator[list[tuple[float, float, float]]]:
    """Stretches of (time, value, floor) without a missing value in between."""
    part: list[tuple[float, float, float]] = []
    for index, (at, value) in enumerate(line.points):
        if part and (math.isnan(value) or at - part[-1][0] > 1.5 * step_s):
            yield part
            part = []
        if not math.isnan(value):
            part.append((at, value, line.floor[index] if line.floor else -math.inf))
    if part:
        yield part


def _thresholds(plane: Plane, panel: TimeSeries) -> Iterator[str]:
    if not panel.threshold_lines:
        return
    for step in panel.thresholds:
        if step.above is not None and plane.low < step.above <= plane.high:
            y = plane.y(step.above)
            line = f'x1="{plane.left:.1f}" x2="{plane.right:.1f}" y1="{y:.1f}" y2="{y:.1f}"'
            name = f"<title>{escape(figure(step.above, panel.unit))}</title>"
            yield f'<line class="threshold" style="--c:var(--{step.color.value})" {line}>{name}</line>'


def _exemplars(plane: Plane, filled: Filled) -> Iterator[str]:
    """Single requests as diamonds; where there are many, the slowest, or those with the least slack."""
    found = [(each, *each.points[0]) for answer in filled.answers for each in answer.exemplars]
    shown = [
        item
        for item in found
        if plane.window.start <= item[1] <= plane.window.end and plane.low <= item[2] <= plane.high
    ]
    worst = sorted(shown, key=lambda item: item[2], reverse=filled.panel.minimum is not None)
    for each, at, value in worst[:MOST_EXEMPLARS]:
        x, y = plane.x(at), plane.y(value)
        said = ", ".join(f"{name} {text}" for name, text in sorted(each.labels.items()))
        name = f"<title>{escape(figure(value, filled.panel.unit))}: {escape(said)}</title>"
        yield f'<path class="exemplar" d="M{x:.1f} {y - 3.5:.1f}l3.5 3.5l-3.5 3.5l-3.5 -3.5Z">{name}</path>'
