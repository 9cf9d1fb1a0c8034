"""A panel as Grafana's classic JSON: one function per kind for what only that kind has."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from dashboards.builder.look import Style, Threshold, Unit
from dashboards.builder.model import BarGauge, Gauge, Heatmap, Panel, Stat, Table, Target, TimeSeries

Json = dict[str, Any]
RUNBOOKS = "${runbooks}"
LAST = {"calcs": ["lastNotNull"], "fields": "", "values": False}


def panel_json(panel: Panel, datasource: Json) -> Json:
    """A panel without its place and its identifier."""
    targets = [_target(panel, target, index, datasource) for index, target in enumerate(panel.targets)]
    common = {"title": panel.title, "description": panel.description, "datasource": datasource, "targets": targets}
    return {**common, "links": _links(panel), **_special(panel)}


def _links(panel: Panel) -> list[Json]:
    if not panel.runbook:
        return []
    return [{"targetBlank": True, "title": "Runbook", "url": f"{RUNBOOKS}/{panel.runbook}.md"}]


def reference(index: int) -> str:
    """Grafana's name of a panel's query: A, B, C …"""
    return chr(ord("A") + index)


def is_instant(panel: Panel) -> bool:
    """Whether a panel needs the newest value only."""
    return isinstance(panel, Table | Gauge | BarGauge) or (isinstance(panel, Stat) and not panel.sparkline)


def _target(panel: Panel, target: Target, index: int, datasource: Json) -> Json:
    formats = {Table: "table", Heatmap: "heatmap"}
    instant = is_instant(panel)
    return {
        "datasource": datasource,
        "editorMode": "code",
        "exemplar": target.exemplar,
        "expr": target.expr,
        "format": formats.get(type(panel), "time_series"),
        "instant": instant,
        "legendFormat": target.legend or "__auto",
        "range": not instant,
        "refId": reference(index),
    }


def _thresholds(steps: tuple[Threshold, ...]) -> Json:
    return {"mode": "absolute", "steps": [{"color": step.color.value, "value": step.above} for step in steps]}


def _defaults(panel: Panel, color: Json, custom: Json) -> Json:
    defaults: Json = {
        "color": color,
        "custom": custom,
        "mappings": [],
        "thresholds": _thresholds(panel.thresholds),
        "unit": panel.unit.value,
    }
    optional = {"min": panel.minimum, "max": panel.maximum, "decimals": panel.decimals, "noValue": panel.empty or None}
    return defaults | {key: value for key, value in optional.items() if value is not None}


def _field_config(panel: Panel, color: str = "thresholds", custom: Json | None = None) -> Json:
    overrides = [_style(target, reference(index)) for index, target in enumerate(panel.targets)]
    defaults = _defaults(panel, {"mode": color}, custom or {})
    return {"defaults": defaults, "overrides": [each for each in overrides if each["properties"]]}


def _style(target: Target, ref: str) -> Json:
    """What one query's series have of their own."""
    properties: list[Json] = []
    if target.color:
        properties.append({"id": "color", "value": {"fixedColor": target.color.value, "mode": "fixed"}})
    if target.style is Style.BOUND:
        properties.append({"id": "custom.lineStyle", "value": {"dash": [6, 6], "fill": "dash"}})
        properties.append({"id": "custom.fillOpacity", "value": 0})
        properties.append({"id": "custom.stacking", "value": {"group": False, "mode": "none"}})
    return {"matcher": {"id": "byFrameRefID", "options": ref}, "properties": properties}


@singledispatch
def _special(panel: Panel) -> Json:
    raise TypeError(f"{type(panel).__name__} has no JSON: this is a bug")


@_special.register
def _(panel: TimeSeries) -> Json:
    custom = {
        "axisPlacement": "auto",
        "drawStyle": "line",
        "fillOpacity": 60 if panel.stacked else 8,
        "gradientMode": "none",
        "lineInterpolation": "linear",
        "lineWidth": 1 if panel.stacked else 2,
        "pointSize": 4,
        "scaleDistribution": {"type": "linear"},
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if panel.stacked else "none"},
        "thresholdsStyle": {"mode": "dashed" if panel.threshold_lines else "off"},
    }
    return {
        "type": "timeseries",
        "fieldConfig": _field_config(panel, "palette-classic-by-name", custom),
        "options": {
            "legend": {
                "calcs": ["lastNotNull", "max"],
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


@_special.register
def _(panel: Stat) -> Json:
    return {
        "type": "stat",
        "fieldConfig": _field_config(panel),
        "options": {
            "colorMode": "value",
            "graphMode": "area" if panel.sparkline else "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": LAST,
            "showPercentChange": False,
            "textMode": "auto",
            "wideLayout": True,
        },
    }


@_special.register
def _(panel: Gauge) -> Json:
    return {
        "type": "gauge",
        "fieldConfig": _field_config(panel),
        "options": {
            "orientation": "auto",
            "reduceOptions": LAST,
            "showThresholdLabels": False,
            "showThresholdMarkers": True,
        },
    }


@_special.register
def _(panel: BarGauge) -> Json:
    return {
        "type": "bargauge",
        "fieldConfig": _field_config(panel),
        "options": {
            "displayMode": "basic",
            "namePlacement": "auto",
            "orientation": "horizontal",
            "reduceOptions": LAST,
            "showUnfilled": True,
            "sizing": "auto",
            "valueMode": "color",
        },
    }


@_special.register
def _(panel: Heatmap) -> Json:
    return {
        "type": "heatmap",
        "fieldConfig": {
            "defaults": {"custom": {"scaleDistribution": {"type": "linear"}}, "unit": panel.unit.value},
            "overrides": [],
        },
        "options": {
            "calculate": False,
            "cellGap": 1,
            "cellValues": {"unit": Unit.COUNT.value},
            "color": {
                "exponent": 0.5,
                "fill": "dark-orange",
                "mode": "scheme",
                "scale": "exponential",
                "scheme": "Purples",
            }
            | {"reverse": False, "steps": 64},
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "filterValues": {"le": 1e-9},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
            "tooltip": {"mode": "single", "showColorScale": True, "yHistogram": True},
            "yAxis": {"axisPlacement": "left", "reverse": False, "unit": panel.unit.value},
        },
    }


@_special.register
def _(panel: Table) -> Json:
    columns = [*panel.labels, *((_value_column(panel, i), target.legend) for i, target in enumerate(panel.targets))]
    organize = {
        "excludeByName": {"Time": True},
        "includeByName": {name: True for name, _ in columns},
        "indexByName": {name: index for index, (name, _) in enumerate(columns)},
        "renameByName": dict(columns),
    }
    field_config = _field_config(panel, custom={"align": "auto", "cellOptions": {"type": "auto"}, "filterable": False})
    return {
        "type": "table",
        "fieldConfig": field_config | {"overrides": [_column(target) for target in panel.targets]},
        "options": {"cellHeight": "sm", "showHeader": True},
        "transformations": [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}],
    }


def _value_column(panel: Table, index: int) -> str:
    """Grafana's name: a single query's column is not numbered."""
    return "Value" if len(panel.targets) == 1 else f"Value #{reference(index)}"


def _column(target: Target) -> Json:
    properties: list[Json] = [{"id": "unit", "value": target.unit.value}] if target.unit else []
    if target.thresholds:
        properties.append({"id": "thresholds", "value": _thresholds(target.thresholds)})
        properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
    return {"matcher": {"id": "byName", "options": target.legend}, "properties": properties}
