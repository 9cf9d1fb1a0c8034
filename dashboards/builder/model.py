"""What a dashboard is: rows of panels with PromQL. Both Grafana's JSON and the preview are made of this.

Places are those of Grafana's grid: 24 columns, and rows of 30 pixels with 8 between them. Panels flow from left to
right in the order they are given, so that no place is written down anywhere.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from dashboards.builder.look import NEUTRAL, Color, Style, Threshold, Unit

COLUMNS = 24
PANEL_IDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Target:
    """One query.

    Attributes:
        expr: PromQL, with the dashboard's variables.
        legend: with ``{{label}}``; the title of the column in a table.
        exemplar: also asks for exemplars, the trace ids of single requests.
        unit, thresholds: of the column, in a table.
    """

    expr: str
    legend: str = ""
    color: Color | None = None
    style: Style = Style.LINE
    exemplar: bool = False
    unit: Unit | None = None
    thresholds: tuple[Threshold, ...] = ()


@dataclass(frozen=True, slots=True)
class Panel:
    """What every kind has.

    Attributes:
        means: what is shown, for someone who sees it for the first time.
        worry: when it is bad, and what to do.
        empty: what it means that no series comes back, where that is no fault ("No alert is firing").
        runbook: name of a runbook page, without its suffix.
        width, height: in columns and rows of the grid.

    Raises:
        ValueError: it has no query, no explanation, or does not fit the grid.
    """

    title: str
    means: str
    worry: str
    targets: tuple[Target, ...]
    unit: Unit = Unit.COUNT
    width: int = 12
    height: int = 8
    thresholds: tuple[Threshold, ...] = NEUTRAL
    minimum: float | None = None
    maximum: float | None = None
    decimals: int | None = None
    empty: str = ""
    runbook: str = ""

    def __post_init__(self) -> None:
        if not self.targets or not self.means or not self.worry:
            raise ValueError(f"{self.title}: a panel has a query, what it means and when to worry")
        if not 1 <= self.width <= COLUMNS or self.height < 2:
            raise ValueError(f"{self.title}: {self.width} × {self.height} does not fit the grid")

    @property
    def description(self) -> str:
        """Markdown, behind the panel's (i)."""
        return f"{self.means}\n\n**When to worry:** {self.worry}"


@dataclass(frozen=True, slots=True)
class TimeSeries(Panel):
    """Lines over time. ``threshold_lines`` draws the thresholds across the chart."""

    minimum: float | None = 0
    stacked: bool = False
    threshold_lines: bool = False


@dataclass(frozen=True, slots=True)
class Stat(Panel):
    """The newest value, large, with a line of its past where ``sparkline`` is set."""

    width: int = 4
    height: int = 4
    sparkline: bool = True


@dataclass(frozen=True, slots=True)
class Gauge(Panel):
    """The newest value of each series on an arc between ``minimum`` and ``maximum``."""

    width: int = 6
    minimum: float | None = 0
    maximum: float | None = 1


@dataclass(frozen=True, slots=True)
class BarGauge(Panel):
    """The newest value of each series as a bar, side by side to compare."""

    width: int = 8
    minimum: float | None = 0


@dataclass(frozen=True, slots=True)
class Heatmap(Panel):
    """How a histogram's buckets fill over time. The one query is by ``le``."""


@dataclass(frozen=True, slots=True)
class Table(Panel):
    """One line per set of labels, one column per query.

    Attributes:
        labels: columns before those of the queries: label and title.
    """

    width: int = 24
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and what belongs below it."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top: of a label's values, or of fixed ``options``.

    Attributes:
        query: a PromQL selector whose label ``name`` has the values; "" with options.
    """

    name: str
    label: str
    query: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Grafana's gridPos."""

    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page of rows.

    Attributes:
        name: of its file and of the command line.
        since: what it shows when it is opened, in Prometheus' notation.

    Raises:
        ValueError: two panels have one title, so links to one of them would not be stable.
    """

    name: str
    title: str
    summary: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = ()
    since: str = "1h"
    refresh: str = "10s"
    tags: tuple[str, ...] = field(default=("tutti",))

    def __post_init__(self) -> None:
        identifiers = [self.identifier(thing.title) for thing, _ in self.placed()]
        if len(set(identifiers)) < len(identifiers):
            raise ValueError(f"{self.name}: two rows or panels have the same title")

    @property
    def uid(self) -> str:
        """Part of the dashboard's address, the same in every Grafana."""
        return f"tutti-{self.name}"

    def panels(self) -> Iterator[Panel]:
        """In reading order."""
        for row in self.rows:
            yield from row.panels

    def identifier(self, title: str) -> int:
        """Of a row's or panel's title: a link to a panel outlives what is put before it."""
        return zlib.crc32(f"{self.name}/{title}".encode()) % PANEL_IDS + 1

    def placed(self) -> Iterator[tuple[Row | Panel, Place]]:
        """Rows and panels with their places."""
        y = 0
        for row in self.rows:
            yield row, Place(0, y, COLUMNS, 1)
            y += 1
            x = tallest = 0
            for panel in row.panels:
                if x + panel.width > COLUMNS:
                    x, y, tallest = 0, y + tallest, 0
                yield panel, Place(x, y, panel.width, panel.height)
                x, tallest = x + panel.width, max(tallest, panel.height)
            y += tallest
