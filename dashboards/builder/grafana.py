"""A dashboard as Grafana's classic JSON."""

from __future__ import annotations

from typing import Any

from dashboards.builder.grafana_panels import panel_json
from dashboards.builder.model import Dashboard, Panel, Place, Row, Variable

SCHEMA_VERSION = 41
RUNBOOKS_PATH = "/public/runbooks"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
Json = dict[str, Any]


def dashboard_json(dashboard: Dashboard) -> Json:
    """What Grafana imports or provisions as it is."""
    return {
        "annotations": {"list": [_changes(), _alerts()]},
        "description": dashboard.summary,
        "editable": True,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,  # one cross-hair over all panels
        "links": [_others()],
        "panels": [_placed_json(dashboard, thing, place) for thing, place in dashboard.placed()],
        "refresh": dashboard.refresh,
        "schemaVersion": SCHEMA_VERSION,
        "tags": list(dashboard.tags),
        "templating": {"list": [_datasource(), *map(_variable, dashboard.variables), _runbooks()]},
        "time": {"from": f"now-{dashboard.since}", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": dashboard.title,
        "uid": dashboard.uid,
        "version": 1,
        "weekStart": "",
    }


def _placed_json(dashboard: Dashboard, thing: Row | Panel, place: Place) -> Json:
    common = {"gridPos": {"h": place.h, "w": place.w, "x": place.x, "y": place.y}}
    if isinstance(thing, Row):
        row = {"collapsed": False, "id": dashboard.identifier(thing.title), "panels": [], "title": thing.title}
        return {"type": "row", **common, **row}
    return {**panel_json(thing, DATASOURCE), **common, "id": dashboard.identifier(thing.title)}


def _changes() -> Json:
    """Grafana's own annotations, which every dashboard has."""
    return {
        "builtIn": 1,
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
        "name": "Annotations & Alerts",
        "type": "dashboard",
    }


def _alerts() -> Json:
    """Firing alerts, over every chart."""
    return {
        "datasource": DATASOURCE,
        "enable": True,
        "expr": 'ALERTS{alertstate="firing"}',
        "iconColor": "red",
        "name": "Alerts",
        "step": "10s",
        "tagKeys": "severity,tier",
        "textFormat": "{{sloth_slo}}",
        "titleFormat": "{{alertname}}",
    }


def _others() -> Json:
    return {
        "asDropdown": False,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "tags": ["tutti"],
        "targetBlank": False,
        "title": "Dashboards",
        "tooltip": "",
        "type": "dashboards",
        "url": "",
    }


def _datasource() -> Json:
    return {
        "hide": 0,
        "includeAll": False,
        "label": "Data source",
        "multi": False,
        "name": "datasource",
        "options": [],
        "query": "prometheus",
        "refresh": 1,
        "regex": "",
        "skipUrlSync": False,
        "type": "datasource",
    }


def _runbooks() -> Json:
    """Where the runbook pages lie: compose.yaml puts them among Grafana's public files."""
    return {
        "hide": 2,
        "label": "Runbooks",
        "name": "runbooks",
        "query": RUNBOOKS_PATH,
        "skipUrlSync": True,
        "type": "constant",
    }


def _variable(variable: Variable) -> Json:
    """Of several values, with "All", which matches series that lack the label as well."""
    common = {
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
        "includeAll": True,
        "label": variable.label,
        "multi": True,
        "name": variable.name,
        "skipUrlSync": False,
    }
    if variable.options:
        options = [{"selected": False, "text": option, "value": option} for option in variable.options]
        every = {"selected": True, "text": "All", "value": "$__all"}
        return {**common, "options": [every, *options], "query": ",".join(variable.options), "type": "custom"}
    return {
        **common,
        "datasource": DATASOURCE,
        "definition": f"label_values({variable.query}, {variable.name})",
        "options": [],
        "query": {
            "qryType": 1,
            "query": f"label_values({variable.query}, {variable.name})",
            "refId": "PrometheusVariableQueryEditor-VariableQuery",
        },
        "refresh": 2,  # when the time range changes
        "regex": "",
        "sort": 1,
        "type": "query",
    }
