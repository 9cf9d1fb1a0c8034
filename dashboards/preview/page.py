"""Dashboards as one page of HTML: nothing in it comes from elsewhere, so it can be sent and kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Final

from dashboards.builder.model import (
    COLUMNS,
    BarGauge,
    Dashboard,
    Gauge,
    Heatmap,
    Panel,
    Place,
    Row,
    Stat,
    Table,
    TimeSeries,
)
from dashboards.preview.data import Filled, Firing
from dashboards.preview.figures import figure, suffix
from dashboards.preview.heatmap import heatmap
from dashboards.preview.instruments import bars, gauges, stat
from dashboards.preview.lines import Line, line_chart, lines_of
from dashboards.preview.prometheus import public
from dashboards.preview.tables import table

STYLE: Final = Path(__file__).with_name("style.css")
PAGE_PX, GAP_PX, UNIT_PX = 1560, 8, 30
HEAD_PX, PADDING_PX = 34, 12
LEGEND_PX, LEGEND_GAP_PX, LEGEND_CHARACTER_PX, LEGEND_LINES = 20, 6, 6.7, 3
MOST_LEGENDS: Final = 10


@dataclass(frozen=True, slots=True)
class Shown:
    """A dashboard with the answers to its panels' queries, by title."""

    dashboard: Dashboard
    panels: Mapping[str, Filled]
    alerts: tuple[Firing, ...]


@dataclass(frozen=True, slots=True)
class Heading:
    """What the top of the page says.

    Attributes:
        server: URL of Prometheus; its user and password are left out.
        start, end: unix seconds.
        choices: of the variables, in words.
        runbooks: address of the folder of runbook pages; "" leaves the links out.
    """

    server: str
    start: float
    end: float
    choices: Mapping[str, str]
    runbooks: str = ""


def page(shown: Sequence[Shown], heading: Heading) -> str:
    """A whole document."""
    title = shown[0].dashboard.title if len(shown) == 1 else "Tutti: dashboards"
    body = "".join(_dashboard(each, heading) for each in shown)
    contents = _contents(shown) if len(shown) > 1 else ""
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n"
        f"<body>{contents}<main>{body}</main></body>\n</html>\n"
    )


def _contents(shown: Sequence[Shown]) -> str:
    links = "".join(f'<a href="#{each.dashboard.uid}">{escape(_short(each.dashboard))}</a>' for each in shown)
    return f'<nav aria-label="Dashboards">{links}</nav>'


def _short(dashboard: Dashboard) -> str:
    return dashboard.title.partition(": ")[2].capitalize() or dashboard.title


def _dashboard(shown: Shown, heading: Heading) -> str:
    dashboard = shown.dashboard
    placed = "".join(_placed(shown, thing, place, heading) for thing, place in dashboard.placed())
    return (
        f'<section id="{dashboard.uid}"><header><div><h1>{escape(_short(dashboard))}</h1>'
        f"<p>{escape(dashboard.summary)}</p></div>{_facts(shown, heading)}</header>"
        f'<div class="grid">{placed}</div></section>'
    )


def _facts(shown: Shown, heading: Heading) -> str:
    """Time, source, choices, and what could not be shown."""
    moment = "%d %b %Y %H:%M:%S"
    start, end = (datetime.fromtimestamp(at, UTC) for at in (heading.start, heading.end))
    of_day = "%H:%M:%S" if start.date() == end.date() else moment
    facts = [
        ("Time", f"{start.strftime(moment)} – {end.strftime(of_day)} UTC"),
        ("Prometheus", public(heading.server)),
        *((variable.label, heading.choices.get(variable.name) or "all") for variable in shown.dashboard.variables),
        ("Panels", _counted(shown)),
    ]
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f"<dl>{items}</dl>"


def _counted(shown: Shown) -> str:
    filled = shown.panels.values()
    wrong = sum(bool(each.errors) for each in filled)
    empty = sum(each.is_empty and not each.errors for each in filled)
    parts = (str(len(shown.panels)), empty and f"{empty} without data", wrong and f"{wrong} with errors")
    return ", ".join(part for part in parts if part)


def _placed(shown: Shown, thing: Row | Panel, place: Place, heading: Heading) -> str:
    where = f"grid-area:{place.y + 1}/{place.x + 1}/span {place.h}/span {place.w}"
    if isinstance(thing, Row):
        return f'<h2 style="{where}">{escape(thing.title)}</h2>'
    filled = shown.panels[thing.title]
    head = f"<h3>{escape(thing.title)}{_unit(thing)}{_about(thing, heading)}</h3>"
    kind = type(thing).__name__.lower()
    return f'<article class="{kind}" style="{where}">{head}{_body(filled, shown.alerts, place)}</article>'


def _unit(panel: Panel) -> str:
    """What the numbers at a chart's axis are, where they do not say so themselves."""
    said = suffix(panel.unit) if isinstance(panel, TimeSeries) else ""
    return f'<span class="unit">{escape(said)}</span>' if said else ""


def _about(panel: Panel, heading: Heading) -> str:
    link = ""
    if panel.runbook and heading.runbooks:
        link = f'<p><a href="{escape(heading.runbooks)}/{panel.runbook}.md">Runbook</a></p>'
    return (
        f'<details><summary aria-label="About {escape(panel.title)}">i</summary><div><p>{escape(panel.means)}</p>'
        f"<p><b>When to worry:</b> {escape(panel.worry)}</p>{link}</div></details>"
    )


def _body(filled: Filled, alerts: Sequence[Firing], place: Place) -> str:
    errors = "".join(f'<p class="error" role="alert">{escape(error)}</p>' for error in filled.errors)
    if filled.is_empty:
        return errors or f'<p class="empty">{escape(filled.panel.empty or "No data")}</p>'
    return errors + _drawn(filled, alerts, *_inside(place))


def _inside(place: Place) -> tuple[int, int]:
    """Pixels within a panel, at the page's full width."""
    column = (PAGE_PX - (COLUMNS - 1) * GAP_PX) / COLUMNS
    width = place.w * column + (place.w - 1) * GAP_PX - 2 * PADDING_PX
    height = place.h * UNIT_PX + (place.h - 1) * GAP_PX - HEAD_PX - PADDING_PX
    return round(width), height


def _drawn(filled: Filled, alerts: Sequence[Firing], width: int, height: int) -> str:
    match filled.panel:
        case TimeSeries():
            lines = lines_of(filled)
            below, legend_px = _legend(filled.panel, lines, width)
            return line_chart(filled, alerts, width, height - legend_px) + below
        case Heatmap():
            return heatmap(filled, width, height)
        case Table():
            return table(filled)
        case Stat():
            return stat(filled, width + 2 * PADDING_PX, height)
        case Gauge():
            return gauges(filled)
        case BarGauge():
            return bars(filled)
        case _:
            raise TypeError(f"{type(filled.panel).__name__} has no picture: this is a bug")


def _legend(panel: Panel, lines: Sequence[Line], width: int) -> tuple[str, int]:
    """A list of the lines with their newest values, and the height that it takes. Of many lines the largest."""
    shown = sorted(lines, key=lambda line: -_newest(line))[:MOST_LEGENDS] if len(lines) > MOST_LEGENDS else lines
    values = [figure(_newest(line), panel.unit, panel.decimals) for line in shown]
    items = [_legend_item(line, value) for line, value in zip(shown, values, strict=True)]
    if len(lines) > len(shown):
        items.append(f'<li class="more">and {len(lines) - len(shown)} more</li>')
    characters = sum(len(line.name) + len(value) + 6 for line, value in zip(shown, values, strict=True))
    rows = min(LEGEND_LINES, math.ceil(characters * LEGEND_CHARACTER_PX / width))
    height = rows * LEGEND_PX
    return f'<ul class="legend" style="height:{height}px">{"".join(items)}</ul>', height + LEGEND_GAP_PX


def _legend_item(line: Line, value: str) -> str:
    kind = ' class="bound"' if line.is_bound else ""
    return f'<li{kind} style="--c:var(--{line.color})">{escape(line.name)} <b>{escape(value)}</b></li>'


def _newest(line: Line) -> float:
    return next((value for _, value in reversed(line.points) if not math.isnan(value)), math.nan)


def panels_without(shown: Sequence[Shown]) -> Iterator[tuple[str, str, str]]:
    """Dashboard, panel and what is wrong, of every panel that shows nothing or an error."""
    for each in shown:
        for title, filled in each.panels.items():
            if filled.errors:
                yield each.dashboard.name, title, "; ".join(filled.errors)
            elif filled.is_empty:
                yield each.dashboard.name, title, filled.panel.empty or "No data"
