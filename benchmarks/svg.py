"""Horizontal bar charts as SVG that stands inside a page and takes its colours from the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

ROW, BAR = 34, 20  # heights
LEFT, WIDTH, RIGHT = 190, 410, 200  # of labels, bars and figures
TOP, BOTTOM = 8, 26
DECADES_OF_LOG = 20  # a chart spans so many times more than its smallest bar before its axis becomes logarithmic


@dataclass(frozen=True, slots=True)
class Bar:
    """One side's figure.

    Attributes:
        low, high: its spread, drawn as a whisker where they differ.
        kind: "ours", "peer" or "ceiling"; a class of the page's style.
        note: beside the figure.
    """

    label: str
    value: float
    low: float
    high: float
    kind: str = "peer"
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    is_log: bool

    def x(self, value: float) -> float:
        """Where a value lies, in pixels; inside the chart in any case."""
        if self.is_log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = value / self.high
        return LEFT + WIDTH * min(1.0, max(0.0, share))

    def ticks(self) -> list[float]:
        """Round values along the axis."""
        if self.is_log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1)]
        step = _round_up(self.high / 4)
        return [step * index for index in range(int(self.high / step) + 1)]


def bar_chart(title: str, unit: str, bars: Sequence[Bar]) -> str:
    """An ``<svg>`` element; "" of no bars. The axis is logarithmic where bars are very unequal, and says so.

    Args:
        unit: stands at the axis.
    """
    if not bars:
        return ""
    axis = _axis(bars)
    height = TOP + ROW * len(bars) + BOTTOM
    parts = [_tick(axis, value, height) for value in axis.ticks()]
    parts += [_bar(axis, bar, TOP + ROW * row) for row, bar in enumerate(bars)]
    scale = f"{unit}, logarithmic" if axis.is_log else unit
    parts.append(f'<text class="unit" x="{LEFT + WIDTH + 12}" y="{height - 8}">{escape(scale)}</text>')
    size = f"0 0 {LEFT + WIDTH + RIGHT} {height}"
    return f'<svg viewBox="{size}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'


def _axis(bars: Sequence[Bar]) -> _Axis:
    positive = [bar.value for bar in bars if bar.value > 0]
    high = max([bar.high for bar in bars] + positive, default=1.0) or 1.0
    low = min(positive, default=high)
    if high > DECADES_OF_LOG * low:
        return _Axis(10.0 ** math.floor(math.log10(low) - 0.3), high * 1.05, is_log=True)
    return _Axis(0.0, high * 1.05, is_log=False)


def _tick(axis: _Axis, value: float, height: int) -> str:
    x = axis.x(value)
    line = f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>'
    return line + f'<text class="tick" x="{x:.1f}" y="{height - 8}">{value:g}</text>'


def _bar(axis: _Axis, bar: Bar, y: int) -> str:
    middle, end = y + ROW / 2, axis.x(bar.value)
    box = f'x="{LEFT}" y="{middle - BAR / 2}" width="{end - LEFT:.1f}" height="{BAR}" rx="3"'
    parts = [
        f'<text class="label" x="{LEFT - 10}" y="{middle + 4}">{escape(bar.label)}</text>',
        f'<rect class="{escape(bar.kind)}" {box}/>',
    ]
    if bar.high > bar.low:
        left, right = axis.x(bar.low), axis.x(bar.high)
        ends = f"M{left:.1f} {middle - 4}v8M{right:.1f} {middle - 4}v8"
        parts.append(f'<path class="spread" d="M{left:.1f} {middle}H{right:.1f}{ends}"/>')
        end = max(end, right)
    figure = f"{bar.value:,.4g}" if bar.value < 10_000 else f"{bar.value:,.0f}"
    note = f'<tspan class="note" dx="6">{escape(bar.note)}</tspan>' if bar.note else ""
    parts.append(f'<text class="figure" x="{end + 8:.1f}" y="{middle + 4}">{figure}{note}</text>')
    return "".join(parts)


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10 … times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * digit for digit in (1, 2, 5, 10) if value <= power * digit)
