"""What ``tutti slo build`` makes of ``slo.yaml``, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.cli import main
from api.cli_output import ExitCode
from api.telemetry.catalogue import CATALOGUE
from dashboards.build import FOLDER, Options, render, render_into, stale_files
from dashboards.burn import check_reachable, detection_s
from dashboards.detection import told
from dashboards.document import SloFileError
from dashboards.openslo import SLO_FILE, Specification, load_specification
from dashboards.timescale import TimeScale, TimeScaleError
from tests.dashboards.queries import selectors

Capture = pytest.CaptureFixture[str]
Rule = dict[str, Any]


@pytest.fixture(scope="module")
def files() -> Mapping[str, str]:
    return render_into(FOLDER, Options())


@pytest.fixture(scope="module")
def specification() -> Specification:
    return load_specification()


def _rules(files: Mapping[str, str]) -> Iterator[Rule]:
    for name, text in files.items():
        if re.fullmatch(r"rules/[^/]+\.yml", name):
            for group in yaml.safe_load(text)["groups"]:
                yield from group["rules"]


def _alerts(files: Mapping[str, str]) -> list[Rule]:
    return [rule for rule in _rules(files) if "alert" in rule]


def test_committed_files_are_what_is_built(files: Mapping[str, str]) -> None:
    assert stale_files(files, FOLDER) == [], "run: make slo"


def test_every_series_of_every_rule_exists(files: Mapping[str, str]) -> None:
    told_by_platform = {name for metric in CATALOGUE for name in metric.series}
    recorded = {rule["record"] for rule in _rules(files) if "record" in rule}
    known = told_by_platform | recorded | {"up", "prometheus_rule_evaluation_failures_total"}
    for rule in _rules(files):
        assert {selector.name for selector in selectors(rule["expr"])} <= known, rule["expr"]


def test_words_and_queries_of_runbooks_name_metrics_that_exist(files: Mapping[str, str]) -> None:
    series = {name for metric in CATALOGUE for name in metric.series} | {metric.name for metric in CATALOGUE}
    for name, page in files.items():
        if name.startswith("runbooks/"):
            assert set(re.findall(r"\btutti_[a-z_]+\b", page)) <= series, name
            for query in re.findall(r"```promql\n(.*?)\n```", page, flags=re.DOTALL):
                assert selectors(query), query


def test_every_alert_has_a_runbook_and_says_who_looks_at_it(files: Mapping[str, str]) -> None:
    pages = {name.removeprefix("runbooks/").removesuffix(".md") for name in files if name.startswith("runbooks/")}
    alerts = _alerts(files)
    assert pages == {alert["alert"] for alert in alerts}
    for alert in alerts:
        assert alert["annotations"]["runbook_url"].endswith(f"runbooks/{alert['alert']}.md")
        assert alert["annotations"]["summary"]
        assert alert["labels"]["severity"] == alert["labels"]["sloth_severity"] in ("page", "ticket")
        page = files[f"runbooks/{alert['alert']}.md"]
        for part in ("What it means", "First", "Likely causes", "How the budget burns", "Queries", "Dashboards"):
            assert f"## {part}\n" in page
        if "burn" not in alert["labels"]:
            assert alert["expr"] in page


def test_series_are_named_as_by_sloth(files: Mapping[str, str], specification: Specification) -> None:
    recorded: dict[str, list[Rule]] = {}
    for rule in _rules(files):
        recorded.setdefault(rule.get("record", ""), []).append(rule)
    windows = ("5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d")
    for window in windows:
        assert f"slo:sli_error:ratio_rate{window}" in recorded
    for name in ("slo:objective:ratio", "slo:error_budget:ratio", "slo:time_period:days", "sloth_slo_info"):
        assert [rule["labels"]["sloth_slo"] for rule in recorded[name]] == [slo.name for slo in specification.slos]
        assert {rule["labels"]["sloth_id"] for rule in recorded[name]} == {
            f"tutti-{s.name}" for s in specification.slos
        }
    for name in (
        "slo:current_burn_rate:ratio",
        "slo:period_burn_rate:ratio",
        "slo:period_error_budget_remaining:ratio",
    ):
        assert len(recorded[name]) == 1
    assert {rule["labels"]["sloth_window"] for rule in recorded["slo:sli_bad:increase1h"]} == {"1h"}


def test_detection_times_follow_the_formula(specification: Specification) -> None:
    success = next(slo for slo in specification.slos if slo.name == "success-pro")
    ttfa = next(slo for slo in specification.slos if slo.name == "ttfa-pro")
    fast = specification.alerts[0]
    assert detection_s(success, fast) == pytest.approx(14.4 * 0.001 * 3600)
    assert detection_s(ttfa, fast) == pytest.approx(14.4 * 0.01 * 3600)
    assert detection_s(ttfa, fast, bad_share=0.5) == pytest.approx(2 * 14.4 * 0.01 * 3600)
    assert detection_s(ttfa, fast, bad_share=0.1) is None
    assert [told(slo, fast) for slo in (success, ttfa)] == ["51.8 s", "8.6 min"]
    assert told(ttfa, fast, 0.1) == "never"


def _with_objective(target: str, folder: Path) -> Path:
    changed = folder / "slo.yaml"
    changed.write_text(
        SLO_FILE.read_text().replace("objectives: [{target: 0.99}]", f"objectives: [{{target: {target}}}]")
    )
    return changed


def test_alerts_that_can_never_fire_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SloFileError, match=r"ttfa-enterprise.*page-fast can never fire.*144 %.*above 93\.0"):
        render(Options(), _with_objective("0.9", tmp_path))
    check_reachable(load_specification(_with_objective("0.95", tmp_path)))


def test_time_scale_shortens_windows_and_keeps_names(files: Mapping[str, str]) -> None:
    scaled = render(Options(scale=TimeScale(60)))
    assert "[5s]" in scaled["rules/slo-5m.yml"]
    assert "[12h:5s]" in scaled["rules/slo-budget.yml"]
    assert "[30d:5m]" in files["rules/slo-budget.yml"]
    now, then = ([(rule.get("alert"), rule["labels"]) for rule in _alerts(each)] for each in (files, scaled))
    assert now == then
    assert {rule.get("record") for rule in _rules(files)} == {rule.get("record") for rule in _rules(scaled)}
    config = yaml.safe_load(scaled["prometheus.yml"])
    assert config["global"]["scrape_interval"] == config["global"]["evaluation_interval"] == "500ms"


@pytest.mark.parametrize("factor", [0.5, 151, float("nan")])
def test_time_scales_that_cannot_be(factor: float) -> None:
    with pytest.raises(TimeScaleError, match="between 1 and 150"):
        TimeScale(factor)


def test_command_builds_checks_and_mends(tmp_path: Path, capsys: Capture) -> None:
    arguments = ["slo", "build", "--out", str(tmp_path)]
    assert main(arguments) == ExitCode.OK
    assert main([*arguments, "--check"]) == ExitCode.OK
    (tmp_path / "rules/alerts-page-fast.yml").write_text("groups: []\n")
    (tmp_path / "runbooks/TuttiGone.md").write_text("of an alert that was taken out\n")
    capsys.readouterr()
    assert main([*arguments, "--check"]) == ExitCode.FAILED
    assert "rules/alerts-page-fast.yml, runbooks/TuttiGone.md. Run: tutti slo build" in capsys.readouterr().err
    assert main(arguments) == ExitCode.OK
    assert "2 of them changed" in capsys.readouterr().out
    assert not (tmp_path / "runbooks/TuttiGone.md").exists()
    assert main([*arguments, "--check"]) == ExitCode.OK


def test_command_takes_addresses(tmp_path: Path) -> None:
    addresses = ["--platform", "http://tutti:8000/", "--prometheus", "p:1", "--alertmanager", "a:2"]
    notify = ["--notify", "http://hook", "--runbooks", "https://wiki/tutti/", "--metrics-token-file", "/run/token"]
    assert main(["slo", "build", "--out", str(tmp_path), *addresses, *notify]) == ExitCode.OK
    text = (tmp_path / "prometheus.yml").read_text()
    assert not [sign for sign in ("&id", "*id") if sign in text], "no anchors: people copy from this file"
    config = yaml.safe_load(text)
    job = config["scrape_configs"][0]
    assert job["http_sd_configs"][0]["url"] == "http://tutti:8000/metrics/targets"
    token = {"credentials_file": "/run/token"}
    assert job["authorization"] == job["http_sd_configs"][0]["authorization"] == token
    assert config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] == ["a:2"]
    receivers = yaml.safe_load((tmp_path / "alertmanager.yml").read_text())["receivers"]
    assert [each["webhook_configs"][0]["url"] for each in receivers] == ["http://hook/page", "http://hook/ticket"]
    assert "https://wiki/tutti/TuttiDown.md" in (tmp_path / "rules/causes.yml").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--time-scale", "60"], "--out"),
        (["--notify", "http://hook"], "--out"),
    ],
)
def test_command_keeps_options_out_of_the_committed_files(arguments: list[str], words: str, capsys: Capture) -> None:
    assert main(["slo", "build", *arguments]) == ExitCode.USAGE
    assert words in capsys.readouterr().err


def test_command_refuses_a_time_scale_in_one_line(tmp_path: Path, capsys: Capture) -> None:
    assert main(["slo", "build", "--time-scale", "1000", "--out", str(tmp_path)]) == ExitCode.FAILED
    assert "between 1 and 150" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
