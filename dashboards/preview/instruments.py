"""Single numbers: a large figure with its past, an arc, bars."""

from __future__ import annotations

import math
from html import escape

from dashboards.builder.model import Panel, Stat
from dashboards.preview.data import Filled
from dashboards.preview.figures import color_of, figure
from dashboards.preview.lines import Line, lines_of

ARC = 0.72  # of a full turn
RADIUS, STROKE = 52.0, 11.0


def stat(filled: Filled, width: int, height: int) -> str:
    """The newest value, large, before the line of its past."""
    panel = filled.panel
    lines = lines_of(filled)
    figures = "".join(_large(panel, line, alone=len(lines) == 1) for line in lines)
    past = _sparkline(panel, lines[0], width, height) if isinstance(panel, Stat) and panel.sparkline else ""
    return f'{past}<div class="stats">{figures}</div>'


def _large(panel: Panel, line: Line, *, alone: bool) -> str:
    value = _last(line)
    number, _, unit = figure(value, panel.unit, panel.decimals).partition(" ")
    color = color_of(value, panel.thresholds)
    name = "" if alone else f'<span class="of">{escape(line.name)}</span>'
    return (
        f'<p class="large" style="--c:var(--{color})">{escape(number)}'
        f'<span class="unit">{escape(unit) if unit else ""}</span>{name}</p>'
    )


def _sparkline(panel: Panel, line: Line, width: int, height: int) -> str:
    values = [value for _, value in line.points if math.isfinite(value)]
    times = [at for at, value in line.points if math.isfinite(value)]
    if len(values) < 2:
        return ""
    low, high = min([*values, 0.0]), max(values)
    span, duration = (high - low) or 1.0, (times[-1] - times[0]) or 1.0
    points = [
        f"{width * (at - times[0]) / duration:.1f} {height - 3 - (height - 8) * (value - low) / span:.1f}"
        for at, value in zip(times, values, strict=True)
    ]
    color = color_of(_last(line), panel.thresholds)
    return (
        f'<svg class="spark" viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true" '
        f'style="--c:var(--{color})"><path class="area" d="M0 {height}L{"L".join(points)}L{width} {height}Z"/>'
        f'<path class="line" d="M{"L".join(points)}"/></svg>'
    )


def gauges(filled: Filled) -> str:
    """An arc per series."""
    return f'<div class="gauges">{"".join(_gauge(filled.panel, line) for line in lines_of(filled))}</div>'


def _gauge(panel: Panel, line: Line) -> str:
    value, low, high = _last(line), panel.minimum or 0.0, panel.maximum or 1.0
    share = min(1.0, max(0.0, (value - low) / (high - low)))
    color = color_of(value, panel.thresholds)
    said = figure(value, panel.unit, panel.decimals)
    name = escape(f"{line.name}: {said}")
    return (
        f'<figure><svg viewBox="0 0 140 112" role="img" aria-label="{name}"><title>{name}</title>'
        f'<path class="track" stroke-width="{STROKE}" d="{_arc(0, 1)}"/>'
        f'<path class="arc" stroke-width="{STROKE}" style="--c:var(--{color})" d="{_arc(0, max(share, 0.001))}"/>'
        f'<text class="reading" x="70" y="74" style="--c:var(--{color})">{escape(said)}</text></svg>'
        f"<figcaption>{escape(line.name)}</figcaption></figure>"
    )


def _arc(begin: float, end: float) -> str:
    """A path along the gauge from one share to another."""
    first, last = (math.tau * (0.75 - ARC / 2 + ARC * share) for share in (begin, end))
    large = int(last - first > math.pi)
    x, y = 70 + RADIUS * math.cos(first), 66 + RADIUS * math.sin(first)
    to_x, to_y = 70 + RADIUS * math.cos(last), 66 + RADIUS * math.sin(last)
    return f"M{x:.2f} {y:.2f}A{RADIUS} {RADIUS} 0 {large} 1 {to_x:.2f} {to_y:.2f}"


def bars(filled: Filled) -> str:
    """A bar per series, the longest first."""
    panel = filled.panel
    lines = sorted(lines_of(filled), key=lambda line: -_last(line))
    high = panel.maximum or max(map(_last, lines)) or 1.0
    rows = "".join(_bar(panel, line, high) for line in lines)
    return f'<ul class="bars">{rows}</ul>'


def _bar(panel: Panel, line: Line, high: float) -> str:
    value = _last(line)
    share = 100 * min(1.0, max(0.0, value / high))
    color = color_of(value, panel.thresholds)
    return (
        f'<li><span class="name">{escape(line.name)}</span><span class="bar"><i style="width:{share:.1f}%;'
        f'--c:var(--{color})"></i></span><b>{escape(figure(value, panel.unit, panel.decimals))}</b></li>'
    )


def _last(line: Line) -> float:
    return next(value for _, value in reversed(line.points) if not math.isnan(value))
