"""Every query of every panel, on a real Prometheus with real rules; then the page of it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import pytest

from dashboards.builder.model import Dashboard, Heatmap, Panel, Target
from dashboards.openslo import load_specification
from dashboards.panels import DASHBOARDS
from dashboards.preview.data import Choice, Filled, ask, choose, firing
from dashboards.preview.prometheus import Prometheus
from dashboards.preview.render import preview
from tests.dashboards.queries import filled as expression
from tests.dashboards.queries import grouped_by, targets
from tests.dashboards.server import SCRAPE_S, prometheus, until

pytestmark = pytest.mark.slow
SHOWN_S = 30.0
PANELS = [
    pytest.param(dashboard, panel, id=f"{dashboard.name}/{panel.title}")
    for dashboard in DASHBOARDS
    for panel in dashboard.panels()
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Thirty times faster than in real life, scraping the exporter."""
    with prometheus(tmp_path_factory.mktemp("prometheus")) as started:
        yield started


@pytest.fixture(scope="module")
def moment(server: Prometheus) -> float:
    """When it has evaluated what comes last: a page fires, and every objective has had a budget for a step."""
    objectives = len(load_specification().slos)
    return until(
        server,
        {
            'ALERTS{alertstate="firing",severity="page"} and on () tutti_build_info': 1,
            "slo:period_error_budget_remaining:ratio offset 2s": objectives,
            f"sum by (sli, tier) (rate(tutti_sli_events_total[{4 * SCRAPE_S}s]))": objectives,
        },
    )


def _choice(dashboard: Dashboard, moment: float, **given: str) -> Choice:
    return Choice(choose(dashboard, given), moment - SHOWN_S, moment, SCRAPE_S)


@pytest.mark.parametrize(("dashboard", "panel"), PANELS)
def test_every_query_brings_what_its_panel_shows(
    server: Prometheus, moment: float, dashboard: Dashboard, panel: Panel
) -> None:
    answered = ask(server, panel, _choice(dashboard, moment))
    assert answered.errors == []
    for answer in answered.answers:
        assert answer.series, answer.target.expr
        for series in answer.series:
            assert not math.isnan(series.last)
            _check_labels(panel, dashboard, answer.target, set(series.labels))
        if answer.target.exemplar:
            assert answer.exemplars, answer.target.expr
            assert all(each.labels["trace_id"] for each in answer.exemplars)


def _check_labels(panel: Panel, dashboard: Dashboard, target: Target, labels: set[str]) -> None:
    expected = grouped_by(expression(dashboard, target))
    if "histogram_quantile" in target.expr and not isinstance(panel, Heatmap):
        expected -= {"le"}
    assert labels <= expected
    if not any(word in target.expr for word in ("ALERTS", "or vector(0)")):
        assert labels == expected


def test_every_query_is_there() -> None:
    """As many as the panels have: none is left out above."""
    assert len(list(targets(DASHBOARDS))) == sum(len(panel.targets) for d in DASHBOARDS for panel in d.panels())
    assert len(PANELS) > 100


def test_choosing_a_tier_leaves_the_others_out(server: Prometheus, moment: float) -> None:
    (dashboard,) = (each for each in DASHBOARDS if each.name == "streaming-quality")
    (panel,) = (each for each in dashboard.panels() if each.title == "Time to first audio by tier")

    def tiers(answered: Filled) -> set[str]:
        return {series.labels["tier"] for answer in answered.answers for series in answer.series}

    assert tiers(ask(server, panel, _choice(dashboard, moment))) == {"enterprise", "pro", "free"}
    assert tiers(ask(server, panel, _choice(dashboard, moment, tier="pro|free"))) == {"pro", "free"}
    assert ask(server, panel, _choice(dashboard, moment, tier="nobody")).is_empty


def test_the_alert_that_the_load_deserves_is_marked(server: Prometheus, moment: float) -> None:
    names = {each.name for each in firing(server, _choice(DASHBOARDS[0], moment))}
    assert "TuttiTimeToFirstAudioBudgetBurn" in names


def test_the_page_of_all_of_them_lacks_nothing(server: Prometheus, moment: float) -> None:
    made = preview(server, DASHBOARDS, since_s=SHOWN_S, end=moment, variables={})
    assert made.lacking == ()
    assert made.panels == len(PANELS)
    assert not re.search(r"\bnan\b", made.html)
