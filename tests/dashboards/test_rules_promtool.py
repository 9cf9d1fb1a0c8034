"""The rules in Prometheus' own hands: they are accepted, fire in their computed time, stay silent, and clear."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from dashboards.build import FOLDER, Options, render, write
from dashboards.burn import alert_groups
from dashboards.openslo import Specification, load_specification
from dashboards.promtool import promtool_tests
from dashboards.recording import recording_groups
from dashboards.rules import rules_file
from dashboards.timescale import TimeScale

TESTS = sorted(path.name for path in (FOLDER / "rules/tests").glob("*.yml"))
TESTED = (
    "absent.yml",
    "budget.yml",
    "causes.yml",
    "page-fast.yml",
    "page-slow.yml",
    "ticket-fast.yml",
    "ticket-slow.yml",
)


def _run(tool: str, *arguments: str | Path, folder: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    found = shutil.which(tool)
    if not found:
        pytest.skip(f"{tool} is not installed (Debian: prometheus, prometheus-alertmanager)")
    return subprocess.run([found, *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False)


def _passes(tool: str, *arguments: str | Path, folder: Path = FOLDER) -> str:
    done = _run(tool, *arguments, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything sixty times faster."""
    folder = tmp_path_factory.mktemp("scaled")
    write(render(Options(scale=TimeScale(60))), folder)
    return folder


def test_every_alert_policy_has_a_test() -> None:
    assert tuple(TESTS) == TESTED


def test_prometheus_accepts_rules_and_configuration() -> None:
    _passes("promtool", "check", "rules", *sorted((FOLDER / "rules").glob("*.yml")))
    said = _passes("promtool", "check", "config", "prometheus.yml")
    assert f"{len(list((FOLDER / 'rules').glob('*.yml')))} rule files found" in said


@pytest.mark.parametrize("name", TESTS)
def test_rules_do_what_they_promise(name: str) -> None:
    _passes("promtool", "test", "rules", f"rules/tests/{name}")


def test_rules_made_sixty_times_faster_do_too(scaled: Path) -> None:
    _passes("promtool", "check", "config", "prometheus.yml", folder=scaled)
    _passes("promtool", "test", "rules", "rules/tests/ticket-slow.yml", folder=scaled)


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        pytest.param("> 1 * 0.01", "> 0.8 * 0.01", id="too eager"),
        pytest.param("> 1 * 0.01", "> 3 * 0.01", id="too late"),
        pytest.param("> 1 * 0.01", "> 100 * 0.01", id="deaf"),
        pytest.param(">= 5", ">= 0", id="wakes somebody for one request"),
        pytest.param("ratio_rate6h{", "ratio_rate3d{", id="goes on long after the fault"),
    ],
)
def test_rules_that_are_wrong_fail_their_test(was: str, becomes: str, tmp_path: Path) -> None:
    whole = load_specification()
    one = replace(whole, slos=whole.slos[:1])
    assert _ticket_slow(one, tmp_path).returncode == 0
    alerts = tmp_path / "rules/alerts-ticket-slow.yml"
    assert was in alerts.read_text()
    alerts.write_text(alerts.read_text().replace(was, becomes))
    assert _run("promtool", "test", "rules", "rules/tests/ticket-slow.yml", folder=tmp_path).returncode == 1


def _ticket_slow(specification: Specification, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the test of the slowest alert on rules for this specification alone."""
    scale = TimeScale()
    groups = [*recording_groups(specification, scale), *alert_groups(specification, scale, "runbooks")]
    files = {f"rules/{group.name}.yml": rules_file([group]) for group in groups}
    files |= dict(promtool_tests(specification, scale))
    write({name: yaml.safe_dump(content) for name, content in files.items()}, folder)
    return _run("promtool", "test", "rules", "rules/tests/ticket-slow.yml", folder=folder)


def test_a_backlog_that_every_worker_tells_counts_once(tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "rules", tmp_path / "rules")
    causes = tmp_path / "rules/causes.yml"
    causes.write_text(causes.read_text().replace("max by (model, tier)", "sum by (model, tier)"))
    assert _run("promtool", "test", "rules", "rules/tests/causes.yml", folder=tmp_path).returncode == 1


def test_alertmanager_accepts_its_configuration(scaled: Path) -> None:
    for folder in (FOLDER, scaled):
        _passes("amtool", "check-config", "alertmanager.yml", folder=folder)


@pytest.mark.parametrize(
    ("labels", "receiver"), [("severity=page", "page"), ("severity=ticket", "ticket"), ("severity=new", "ticket")]
)
def test_alertmanager_sends_alerts_to(labels: str, receiver: str) -> None:
    said = _passes("amtool", "config", "routes", "test", "--config.file=alertmanager.yml", labels)
    assert said.strip() == receiver
