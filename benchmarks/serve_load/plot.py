"""Line, step, dot and column charts as SVG that stands inside a page and takes its colours from the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

WIDTH, HEIGHT = 820, 270
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 30, 40
_TICKS, _TICKS_ACROSS = 5, 9

Kind = Literal["line", "steps", "dots", "area"]


@dataclass(frozen=True, slots=True)
class Series:
    """Points that belong together.

    Attributes:
        name: in the legend; "" keeps it out.
        style: a class of the page's style.
        notes: shown when the pointer rests on a dot; one for each point, or none.
    """

    name: str
    style: str
    points: Sequence[tuple[float, float]]
    kind: Kind = "line"
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """A line across the chart, such as a limit.

    Attributes:
        at: on the x axis if ``is_upright``, else on the y axis.
    """

    label: str
    at: float
    style: str = "mark"
    is_upright: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """
    Attributes:
        unit: stands at its end.
        low, high: what it spans at least; None: what the points span.
        is_log: logarithmic; only what is above 0 is shown.
    """

    unit: str
    low: float | None = 0.0
    high: float | None = None
    is_log: bool = False
    is_share: bool = False


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float
    start: float
    length: float
    is_log: bool

    def at(self, value: float) -> float:
        """In pixels, inside the chart in any case."""
        if self.is_log:
            part = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + self.length * min(1.0, max(0.0, part))

    def ticks(self) -> list[float]:
        if self.is_log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            digits = (1, 2, 5) if len(powers) < 5 else (1,)
            every = [digit * 10.0**power for power in powers for digit in digits]
            return [value for value in every if self.low * 0.999 <= value <= self.high * 1.001]
        step = _round_up((self.high - self.low) / (_TICKS_ACROSS if self.length > 0 else _TICKS))
        first = math.ceil(self.low / step - 1e-9)
        return [step * index for index in range(first, math.floor(self.high / step + 1e-9) + 1)]


def chart(title: str, x: Axis, y: Axis, series: Sequence[Series], marks: Sequence[Mark] = ()) -> str:
    """An ``<svg>`` element; "" if there is not a single point."""
    if not any(each.points for each in series):
        return ""
    across = _scale(x, [point[0] for each in series for point in each.points], _positions(marks, True), LEFT, _inner())
    height = HEIGHT - TOP - BOTTOM
    values = [point[1] for each in series for point in each.points]
    up = _scale(y, values, _positions(marks, False), HEIGHT - BOTTOM, -height)
    parts = [_grid(across, up, x, y)]
    parts += [_drawn(each, across, up) for each in series]
    parts += [_mark(each, across, up) for each in marks]
    parts.append(_legend([each for each in series if each.name]))
    size = f"0 0 {WIDTH} {HEIGHT}"
    return f'<svg viewBox="{size}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'


def _inner() -> float:
    return WIDTH - LEFT - RIGHT


def _positions(marks: Sequence[Mark], is_upright: bool) -> list[float]:
    return [each.at for each in marks if each.is_upright == is_upright]


def _scale(axis: Axis, values: list[float], marks: list[float], start: float, length: float) -> _Scale:
    shown = [value for value in [*values, *marks] if not axis.is_log or value > 0]
    low = min(shown, default=1.0) if axis.low is None or axis.is_log else min(axis.low, *shown)
    high = max(shown, default=1.0) if axis.high is None else axis.high
    if axis.is_log:
        return _Scale(low / 1.15, max(high * 1.15, low * 2), start, length, is_log=True)
    high = low + 1.0 if high <= low else high
    return _Scale(low, high if axis.high is not None else low + (high - low) * 1.05, start, length, is_log=False)


def _grid(across: _Scale, up: _Scale, x: Axis, y: Axis) -> str:
    bottom, parts = HEIGHT - BOTTOM, []
    for value in up.ticks():
        at = up.at(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 8}" y="{at + 4:.1f}">{_label(value, y)}</text>')
    for value in across.ticks():
        at = across.at(value)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{at:.1f}" y="{bottom + 17}">{_label(value, x)}</text>')
    parts.append(f'<text class="unit" x="{LEFT}" y="{TOP - 12}">{escape(y.unit)}</text>')
    parts.append(f'<text class="unit end" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}">{escape(x.unit)}</text>')
    return "".join(parts)


def _label(value: float, axis: Axis) -> str:
    return f"{value:.0%}" if axis.is_share else f"{value:,.10g}"


def _drawn(series: Series, across: _Scale, up: _Scale) -> str:
    at = [(across.at(x), up.at(y)) for x, y in series.points]
    if not at:
        return ""
    if series.kind == "dots":
        return "".join(_dot(series, index, x, y) for index, (x, y) in enumerate(at))
    if series.kind == "steps":
        path = f"M{at[0][0]:.1f} {at[0][1]:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in at[1:])
        return f'<path class="line {series.style}" d="{path}"/>'
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in at)
    if series.kind == "area":
        bottom = HEIGHT - BOTTOM
        return f'<path class="area {series.style}" d="{path}L{at[-1][0]:.1f} {bottom}L{at[0][0]:.1f} {bottom}Z"/>'
    return f'<path class="line {series.style}" d="{path}"/>'


def _dot(series: Series, index: int, x: float, y: float) -> str:
    note = f"<title>{escape(series.notes[index])}</title>" if series.notes else ""
    return f'<circle class="dot {series.style}" cx="{x:.1f}" cy="{y:.1f}" r="2.6">{note}</circle>'


def _mark(mark: Mark, across: _Scale, up: _Scale) -> str:
    if mark.is_upright:
        at = across.at(mark.at)
        line = f'<line class="{mark.style}" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        # Beside its line, turned, so that labels of lines close to one another stay apart.
        x, y = at - 5, HEIGHT - BOTTOM - 8
        turned = f'transform="rotate(-90 {x:.1f} {y})" x="{x:.1f}" y="{y}"'
        return f'{line}<text class="note" {turned}>{escape(mark.label)}</text>'
    at = up.at(mark.at)
    line = f'<line class="{mark.style}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
    return f'{line}<text class="note end" x="{WIDTH - RIGHT - 4}" y="{at - 4:.1f}">{escape(mark.label)}</text>'


def _legend(series: Sequence[Series]) -> str:
    parts, x = [], float(WIDTH - RIGHT)
    for each in reversed(series):
        x -= 7.2 * len(each.name)
        parts.append(f'<text class="legend" x="{x:.1f}" y="{TOP - 12}">{escape(each.name)}</text>')
        x -= 16
        parts.append(f'<rect class="key {each.style}" x="{x:.1f}" y="{TOP - 21}" width="10" height="10" rx="2"/>')
        x -= 14
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of parts on top of one another: class of the style → height."""

    at: float
    parts: dict[str, float] = field(default_factory=dict)


def columns(title: str, x: Axis, y: Axis, width: float, data: Sequence[Column], names: dict[str, str]) -> str:
    """Stacked columns, each ``width`` wide on the x axis; "" of none.

    Args:
        names: class of the style → what it stands for, from the bottom up.
    """
    if not data:
        return ""
    across = _scale(x, [data[0].at, data[-1].at + width], [], LEFT, _inner())
    up = _scale(y, [sum(each.parts.values()) for each in data], [], HEIGHT - BOTTOM, -(HEIGHT - TOP - BOTTOM))
    parts = [_grid(across, up, x, y)]
    for each in data:
        base, left = 0.0, across.at(each.at)
        for style in names:
            if value := each.parts.get(style, 0.0):
                top, bottom = up.at(base + value), up.at(base)
                box = f'x="{left:.1f}" y="{top:.1f}" height="{bottom - top:.1f}"'
                parts.append(
                    f'<rect class="{style}" {box} width="{max(0.5, across.at(each.at + width) - left - 1):.1f}"/>'
                )
                base += value
    used = {style for each in data for style, value in each.parts.items() if value}
    parts.append(_legend([Series(name, style, ()) for style, name in names.items() if style in used]))
    size = f"0 0 {WIDTH} {HEIGHT}"
    return f'<svg viewBox="{size}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10 … times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * digit for digit in (1, 2, 5, 10) if value <= power * digit * (1 + 1e-9))
