"""Queries and metrics, both ways: what a panel asks for exists, and what is measured is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
import ray
import yaml

from api.telemetry.catalogue import CATALOGUE
from dashboards import build
from dashboards.builder.model import Dashboard, Heatmap, Panel, Table, Target
from dashboards.panels import DASHBOARDS
from dashboards.panels.foreign import RAY
from tests.dashboards.queries import Selector, filled, grouped_by, selectors, targets

QUERIES = [pytest.param(*each, id=f"{each[0].name}/{each[1].title}") for each in targets(DASHBOARDS)]
SCRAPED = {"job", "instance"}
ALERTS = {"alertname", "alertstate", "severity"}


@cache
def _rendered() -> Mapping[str, str]:
    return build.render(build.Options())


@cache
def _recorded() -> Mapping[str, set[str]]:
    """Labels of the recorded series: those that the rules set, and for others those of the objectives' series."""
    files = [text for name, text in _rendered().items() if name.startswith("rules/slo-")]
    groups = [group for text in files for group in yaml.safe_load(text)["groups"]]
    rules = [rule for group in groups for rule in group["rules"]]
    of_objectives = set().union(*(rule.get("labels", {}) for rule in rules))
    return {rule["record"]: of_objectives for rule in rules}


@cache
def _labels() -> Mapping[str, set[str]]:
    """Every series that there is, with the labels that a query may use."""
    known = {name: set(metric.labels) | SCRAPED for metric in CATALOGUE for name in metric.series}
    for metric in CATALOGUE:
        if metric.kind == "histogram":
            known[f"{metric.name}_bucket"].add("le")
    known = {name: set(labels) | SCRAPED for name, labels in RAY.items()} | known
    objectives = set().union(*_recorded().values())
    return {
        **known,
        **_recorded(),
        "ALERTS": ALERTS | objectives,
        "ALERTS_FOR_STATE": ALERTS | objectives,
        "up": SCRAPED,
    }


@pytest.mark.parametrize(("dashboard", "panel", "target"), QUERIES)
def test_a_query_asks_for_what_exists(dashboard: Dashboard, panel: Panel, target: Target) -> None:
    for selector in selectors(filled(dashboard, target)):
        assert selector.name in _labels(), f"nobody exports {selector.name}"
        known = _labels()[selector.name]
        used = {label for label, _, _ in selector.matchers}
        used |= set(selector.around[0][1]) if selector.around else set()
        assert used <= known, f"{selector.name} has no {used - known}"
        _check_values(selector)


def _check_values(selector: Selector) -> None:
    """Matched values of closed labels are among those that there can be."""
    metrics = [metric for metric in CATALOGUE if selector.name in metric.series]
    for label, operator, value in selector.matchers:
        allowed = metrics[0].allowed(label) if metrics else None
        if allowed is None or value == ".*":
            continue
        given = value.split("|") if operator in ("=~", "!~") else [value]
        assert set(given) <= set(allowed), f"{selector.name}: {label} is never {set(given) - set(allowed)}"


@pytest.mark.parametrize(("dashboard", "panel", "target"), QUERIES)
def test_a_legend_names_labels_that_the_result_has(dashboard: Dashboard, panel: Panel, target: Target) -> None:
    named = set(re.findall(r"\{\{(\w+)\}\}", target.legend))
    result = grouped_by(filled(dashboard, target)) - ({"le"} if "histogram_quantile" in target.expr else set())
    assert named <= result
    if isinstance(panel, Table):
        assert {label for label, _ in panel.labels} == result
    if not isinstance(panel, Table | Heatmap):
        assert named == result, "two series would have one name"


@pytest.mark.parametrize(("dashboard", "panel", "target"), QUERIES)
def test_what_every_process_tells_is_not_summed(dashboard: Dashboard, panel: Panel, target: Target) -> None:
    same = {metric.name for metric in CATALOGUE if metric.same_everywhere}
    for selector in selectors(filled(dashboard, target)):
        if selector.name in same:
            assert selector.around[0][0] == "max", f"{selector.name} would be counted once per process"


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_every_metric_is_shown(metric: object) -> None:
    shown = {selector.name for d, _, t in targets(DASHBOARDS) for selector in selectors(filled(d, t))}
    assert metric.series & shown, "on no dashboard"  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", RAY)
def test_every_foreign_metric_is_shown(name: str) -> None:
    assert name in {selector.name for d, _, t in targets(DASHBOARDS) for selector in selectors(filled(d, t))}


def test_foreign_metrics_are_not_the_platforms_own() -> None:
    own = {name for metric in CATALOGUE for name in metric.series}
    assert not own & {*RAY}


@pytest.mark.parametrize("name", RAY)
def test_ray_has_the_metric(name: str) -> None:
    """Its sources name it, or its own dashboards query it."""
    assert ray.__file__
    package = Path(ray.__file__).parent
    folders = (package / "serve/_private", package / "dashboard/modules")
    bare = name.removeprefix("ray_")
    counter = bare.removesuffix("_total")
    pattern = re.compile(rf"\b(ray_)?({bare}|{counter})\b|{_formatted(counter)}")
    files = (path for folder in folders for path in folder.rglob("*.py"))
    assert any(pattern.search(path.read_text(encoding="utf-8")) for path in files)


def _formatted(name: str) -> str:
    """The proxies' metrics, whose names are put together of a protocol."""
    return re.escape(f"serve_{name.removeprefix('serve_').replace('http', '{self.protocol.lower()}')}")


def test_variables_are_those_that_queries_use() -> None:
    for dashboard in DASHBOARDS:
        used = {
            name
            for panel in dashboard.panels()
            for target in panel.targets
            for name in re.findall(r"\$(\w+)", target.expr)
            if not name.startswith("__")
        }
        assert used <= {variable.name for variable in dashboard.variables}, dashboard.name
        for variable in dashboard.variables:
            if variable.query:
                assert variable.name in _labels()[variable.query]


def test_runbooks_exist() -> None:
    pages = {name.removeprefix("runbooks/") for name in _rendered() if name.startswith("runbooks/")}
    linked = {panel.runbook for dashboard in DASHBOARDS for panel in dashboard.panels() if panel.runbook}
    assert linked
    assert {f"{name}.md" for name in linked} <= pages
