"""A table as HTML: one line per set of labels, one column per query."""

from __future__ import annotations

import math
from html import escape

from dashboards.builder.model import Table
from dashboards.preview.data import Filled
from dashboards.preview.figures import color_of, figure

MOST_ROWS = 40

_STATES = {"page": "red", "ticket": "orange", "firing": "red", "pending": "orange"}


def table(filled: Filled) -> str:
    """A ``<table>`` of a panel that has data, in the order of its labels."""
    panel = filled.panel
    assert isinstance(panel, Table)
    names = [name for name, _ in panel.labels]
    rows: dict[tuple[str, ...], dict[int, float]] = {}
    for column, answer in enumerate(filled.answers):
        for each in answer.series:
            key = tuple(each.labels.get(name, "") for name in names)
            rows.setdefault(key, {})[column] = each.last
    head = "".join(f'<th scope="col">{escape(title)}</th>' for _, title in panel.labels)
    head += "".join(f'<th scope="col" class="number">{escape(target.legend)}</th>' for target in panel.targets)
    body = "".join(f"<tr>{_labels(key)}{_values(panel, rows[key])}</tr>" for key in sorted(rows)[:MOST_ROWS])
    hidden = len(rows) - MOST_ROWS
    more = f'<p class="more">and {hidden} more</p>' if hidden > 0 else ""
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}</div>'


def _labels(key: tuple[str, ...]) -> str:
    return "".join(f"<td>{_label(value)}</td>" for value in key)


def _label(value: str) -> str:
    color = _STATES.get(value)
    return f'<span class="state" style="--c:var(--{color})">{value}</span>' if color else escape(value) or "–"


def _values(panel: Table, values: dict[int, float]) -> str:
    cells = []
    for column, target in enumerate(panel.targets):
        value = values.get(column, math.nan)
        steps = target.thresholds
        style = f' style="--c:var(--{color_of(value, steps)})"' if steps else ""
        kind = "number marked" if steps else "number"
        said = figure(value, target.unit or panel.unit, panel.decimals)
        cells.append(f'<td class="{kind}"{style}>{escape(said)}</td>')
    return "".join(cells)
