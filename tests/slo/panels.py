"""Every query of every committed dashboard, asked of a Prometheus that watches the running platform."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dashboards.preview.data import Choice, substitute
from dashboards.preview.prometheus import Prometheus, PrometheusError, Series, Window
from tests.slo.checker import Check

FOLDER = Path(__file__).resolve().parents[2] / "dashboards" / "grafana" / "dashboards"
_LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_POINTS = 60

ABSENT: Mapping[str, str] = {
    "ray_node_gpus_utilization": "no GPU on this machine",
    "ray_node_gram_used": "no GPU on this machine",
    "tutti_gpu_seconds_total": "no GPU on this machine",
}
"""A metric that nothing here can tell → why."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query of one panel.

    Attributes:
        labels: that the legend names.
        empty: what the panel says where nothing comes back; "": that would be a fault.
    """

    dashboard: str
    panel: str
    expr: str
    instant: bool
    labels: frozenset[str]
    empty: str


def queries(folder: Path = FOLDER) -> list[Query]:
    """Of all dashboards, in order."""
    return [query for path in sorted(folder.glob("*.json")) for query in _of(json.loads(path.read_text("utf-8")))]


def _of(dashboard: Mapping[str, Any]) -> Iterator[Query]:
    panels = [inner for outer in dashboard["panels"] for inner in (outer, *outer.get("panels", ()))]
    for panel in panels:
        empty = panel.get("fieldConfig", {}).get("defaults", {}).get("noValue", "")
        for target in panel.get("targets", ()):
            labels = frozenset(_LEGEND.findall(target.get("legendFormat", ""))) - {"le"}
            yield Query(dashboard["title"], panel["title"], target["expr"], bool(target.get("instant")), labels, empty)


def check(server: Prometheus, query: Query, start: float, end: float, scrape_s: float) -> Check:
    """Numbers come back, and with the labels that the legend needs."""
    subject = f"{query.dashboard.removeprefix('Tutti: ')} / {query.panel}"
    choice = Choice({"model": ".*", "tier": ".*"}, start, end, scrape_s)
    step = max((end - start) / _POINTS, scrape_s)
    expr = substitute(query.expr, choice, step)
    try:
        found = server.query(expr, end) if query.instant else server.query_range(expr, Window(start, end, step))
    except PrometheusError as error:
        return Check("panels", subject, query.expr, str(error), False)
    return _judged(subject, query, found)


def _judged(subject: str, query: Query, found: list[Series]) -> Check:
    told = [each for each in found if any(not math.isnan(value) for _, value in each.points)]
    if not told:
        reason = next((why for metric, why in ABSENT.items() if metric in query.expr), query.empty)
        return Check("panels", subject, query.expr, f"nothing: {reason}" if reason else "nothing", bool(reason))
    common = frozenset.intersection(*(frozenset(each.labels) for each in told))
    lacking = sorted(query.labels - common)
    if lacking:
        return Check("panels", subject, query.expr, f"series without {', '.join(lacking)}", False)
    return Check("panels", subject, query.expr, f"{len(told)} series", True)
