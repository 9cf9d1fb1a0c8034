"""The dashboards as Grafana's JSON: what is committed is current, complete, and what Grafana reads."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from dashboards.builder import stale, write_all
from dashboards.builder.files import DASHBOARDS_DIR
from dashboards.builder.grafana import dashboard_json
from dashboards.builder.look import Unit, worse_above, worse_below
from dashboards.builder.model import COLUMNS, Dashboard, Panel, Place, Row, Stat, Target, TimeSeries
from dashboards.objectives import load_objectives
from dashboards.panels import DASHBOARDS
from dashboards.panels.queries import TIER

ROOT = Path(__file__).resolve().parents[2]
OURS = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.name)


def _panel(title: str = "A panel", **values: Any) -> Stat:
    return Stat(title, "What it means.", "When to worry.", (Target("up"),), **values)


def test_committed_files_are_current() -> None:
    assert stale() == [], "run: python -m dashboards.builder"


def test_there_are_seven() -> None:
    names = {each.name for each in DASHBOARDS}
    assert names == {
        "slo-overview", "streaming-quality", "engine", "autoscaler-capacity", "tenancy-fairness", "load-test",
        "ray-nodes",
    }  # fmt: skip


def test_writing_renews_what_differs_and_removes_what_is_left_over(tmp_path: Path) -> None:
    assert len(write_all(tmp_path)) == len(DASHBOARDS)
    assert write_all(tmp_path) == []
    changed, removed, left = (
        tmp_path / "tutti-engine.json",
        tmp_path / "tutti-load-test.json",
        tmp_path / "tutti-x.json",
    )
    changed.write_text("{}")
    removed.unlink()
    left.write_text("{}")
    (tmp_path / "somebody-elses.json").write_text("{}")
    assert stale(tmp_path) == sorted([changed, removed, left])
    assert write_all(tmp_path) == sorted([changed, removed, left])
    assert stale(tmp_path) == []
    assert (tmp_path / "somebody-elses.json").exists()


def test_check_fails_on_what_is_not_current(tmp_path: Path) -> None:
    def check() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dashboards.builder", "--check", "--out", str(tmp_path)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    write_all(tmp_path)
    assert check().returncode == 0
    (tmp_path / "tutti-engine.json").unlink()
    failed = check()
    assert failed.returncode == 1
    assert "tutti-engine.json" in failed.stderr
    assert "python -m dashboards.builder" in failed.stderr
    assert not (tmp_path / "tutti-engine.json").exists()


@OURS
def test_grafana_knows_every_field(dashboard: Dashboard) -> None:
    """Grafana's own classes read the JSON, and lose nothing of it: a misspelt field would not come back."""
    with warnings.catch_warnings():
        # It would rather have the newer schema, which Grafana imports only where a switch is on.
        warnings.simplefilter("ignore", DeprecationWarning)
        from grafana_foundation_sdk.cog import encoder, plugins
        from grafana_foundation_sdk.models import dashboard as grafana

        plugins.register_default_plugins()
    written = json.loads((DASHBOARDS_DIR / f"{dashboard.uid}.json").read_text())
    read = grafana.Dashboard.from_json(written)
    back = json.loads(encoder.JSONEncoder(sort_keys=True).encode(read))
    lost = list(_lost(written, back, ""))
    assert [path for path in lost if not path.endswith(UNKNOWN_TO_THE_CLASSES)] == []


UNKNOWN_TO_THE_CLASSES = (".definition", ".regexApplyTo")
"""Fields of Grafana's JSON that its schema leaves out."""


def _lost(written: Any, back: Any, path: str) -> list[str]:
    if isinstance(written, dict):
        if not isinstance(back, dict):
            return [path]
        return [each for key in written for each in _lost(written[key], back.get(key, _MISSING), f"{path}.{key}")]
    if isinstance(written, list):
        if not isinstance(back, list) or len(back) != len(written):
            return [path]
        return [each for i, item in enumerate(written) for each in _lost(item, back[i], f"{path}[{i}]")]
    return [] if back == written or (written in (None, "", False) and back is _MISSING) else [path]


_MISSING = object()


@OURS
def test_panels_lie_side_by_side(dashboard: Dashboard) -> None:
    taken: set[tuple[int, int]] = set()
    for thing, place in dashboard.placed():
        cells = {(x, y) for x in range(place.x, place.x + place.w) for y in range(place.y, place.y + place.h)}
        assert place.x + place.w <= COLUMNS
        assert not cells & taken, thing.title
        taken |= cells
    height = max(y for _, y in taken) + 1
    assert len(taken) == COLUMNS * height, "there are holes"


@OURS
def test_it_reads_from_the_answer_down(dashboard: Dashboard) -> None:
    first = dashboard.rows[0]
    assert first.title.endswith("?")
    assert all(isinstance(panel, Stat) for panel in first.panels)
    assert len(dashboard.rows) >= 4


@OURS
def test_every_panel_says_when_to_worry(dashboard: Dashboard) -> None:
    panels = [each for each in dashboard_json(dashboard)["panels"] if each["type"] != "row"]
    assert len(panels) == len(list(dashboard.panels()))
    for panel in panels:
        assert "When to worry" in panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@OURS
def test_histograms_show_single_requests(dashboard: Dashboard) -> None:
    """Wherever percentiles are drawn over time, one line at least brings exemplars."""
    for panel in dashboard.panels():
        if isinstance(panel, TimeSeries) and any("histogram_quantile" in target.expr for target in panel.targets):
            assert any(target.exemplar for target in panel.targets), panel.title


def test_a_panel_keeps_its_number_when_others_come_before_it() -> None:
    before = Dashboard("x", "X", "", (Row("Row", (_panel("A"),)),))
    after = Dashboard("x", "X", "", (Row("Other", (_panel("B"),)), Row("Row", (_panel("C"), _panel("A")))))
    numbers = [{each["title"]: each["id"] for each in dashboard_json(d)["panels"]} for d in (before, after)]
    assert numbers[0]["A"] == numbers[1]["A"]


def test_panels_flow_into_the_next_line() -> None:
    row = Row("Row", (_panel("A", width=16, height=4), _panel("B", width=10, height=6), _panel("C", width=14)))
    places = [place for _, place in Dashboard("x", "X", "", (row,)).placed()]
    assert places == [Place(0, 0, 24, 1), Place(0, 1, 16, 4), Place(0, 5, 10, 6), Place(10, 5, 14, 4)]


@pytest.mark.parametrize("values", [{"width": 25}, {"width": 0}, {"height": 1}])
def test_a_panel_that_does_not_fit_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        _panel(**values)


def test_a_panel_without_words_or_query_is_refused() -> None:
    with pytest.raises(ValueError, match="when to worry"):
        Panel("A", "", "Always.", (Target("up"),))
    with pytest.raises(ValueError, match="when to worry"):
        Panel("A", "Something.", "Always.", ())


def test_two_panels_of_one_title_are_refused() -> None:
    with pytest.raises(ValueError, match="same title"):
        Dashboard("x", "X", "", (Row("A row", (_panel("A"),)), Row("Another", (_panel("A"),))))


def test_a_kind_of_panel_without_json_is_refused() -> None:
    plain = Panel("A", "Something.", "Always.", (Target("up"),))
    with pytest.raises(TypeError, match="has no JSON"):
        dashboard_json(Dashboard("x", "X", "", (Row("Row", (plain,)),)))


def test_variables_offer_everything_and_several() -> None:
    dashboard = Dashboard("x", "X", "", (Row("Row", (_panel(),)),), (TIER,))
    datasource, tier, runbooks = dashboard_json(dashboard)["templating"]["list"]
    assert (datasource["name"], datasource["type"]) == ("datasource", "datasource")
    assert [option["text"] for option in tier["options"]] == ["All", "enterprise", "pro", "free"]
    assert tier["multi"]
    assert tier["includeAll"]
    assert runbooks["hide"] == 2


def test_tiers_are_those_that_are_promised_something() -> None:
    assert TIER.options == load_objectives().tiers


def test_thresholds_run_from_good_to_bad_either_way() -> None:
    assert [(step.above, step.color) for step in worse_above(1, 2)] == [(None, "green"), (1, "orange"), (2, "red")]
    assert [(step.above, step.color) for step in worse_below(2, 1)] == [(None, "red"), (1, "orange"), (2, "green")]


def test_units_are_grafanas() -> None:
    assert {unit.value for unit in Unit if not unit.value.startswith("suffix:")} <= {
        "short", "s", "ms", "d", "percentunit", "percent", "bytes", "Bps",
    }  # fmt: skip
