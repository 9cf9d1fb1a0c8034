"""Prometheus, Alertmanager and Grafana in compose.yaml, held against what they are given; nothing is started here."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.builder.files import DASHBOARDS_DIR
from dashboards.builder.grafana import RUNBOOKS_PATH
from dashboards.server_files import Addresses, prometheus_config
from dashboards.timescale import TimeScale

ROOT = Path(__file__).resolve().parents[2]
PROVISIONING = ROOT / "dashboards/grafana/provisioning"
MONITORING = ("prometheus", "alertmanager", "grafana")
WEB_ROOT = "/usr/share/grafana"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return loaded


def _provisioned(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((PROVISIONING / name / "tutti.yaml").read_text())
    return loaded


def _mounts(service: dict[str, Any]) -> dict[str, str]:
    """Folder or file here by its path in the container, volumes left out. All of them can only be read."""
    split = [volume.split(":") for volume in service["volumes"] if volume.startswith("./")]
    assert all(options == ["ro"] for _, _, *options in split)
    return {inside: here for here, inside, *_ in split}


@pytest.mark.parametrize("name", MONITORING)
def test_each_is_asked_for_watched_and_kept_to_itself(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["profiles"] == ["monitoring"]
    assert service["cap_drop"] == ["ALL"]
    (published,) = service["ports"]
    address, outside, inside = published.split(":")
    assert address == "127.0.0.1"
    assert outside == inside
    assert f"http://127.0.0.1:{inside}/" in " ".join(service["healthcheck"]["test"])


@pytest.mark.parametrize("name", MONITORING)
def test_what_is_mounted_is_there(compose: dict[str, Any], name: str) -> None:
    for here in _mounts(compose["services"][name]).values():
        assert (ROOT / here).exists(), here


def test_prometheus_has_the_projects_configuration_with_other_addresses(compose: dict[str, Any]) -> None:
    (secret,) = compose["services"]["prometheus"]["secrets"]
    assert compose["secrets"][secret] == {"environment": "TUTTI_METRICS_TOKEN"}
    addresses = Addresses(
        platform="http://tutti:8000", alertmanager="alertmanager:9093", token_file=f"/run/secrets/{secret}"
    )
    given = yaml.safe_load(compose["configs"]["prometheus"]["content"])
    assert given == prometheus_config(addresses, TimeScale())


def test_addresses_in_the_configuration_are_services(compose: dict[str, Any]) -> None:
    services = compose["services"]
    hosts = set(re.findall(r"\b([a-z]+):(\d{4})\b", compose["configs"]["prometheus"]["content"]))
    hosts |= {pair for each in _provisioned("datasources")["datasources"] for pair in _host(each["url"])}
    assert len(hosts) == 3
    for name, port in hosts:
        assert any(published.endswith(f":{port}") for published in services[name]["ports"]), name


def _host(url: str) -> list[tuple[str, str]]:
    return re.findall(r"//([a-z]+):(\d+)", url)


def test_prometheus_finds_the_rules(compose: dict[str, Any]) -> None:
    service = compose["services"]["prometheus"]
    (config,) = service["configs"]
    folder = Path(config["target"]).parent
    (pattern,) = yaml.safe_load(compose["configs"]["prometheus"]["content"])["rule_files"]
    assert _mounts(service)[str(folder / Path(pattern).parent)] == "./dashboards/rules"
    assert f"--config.file={config['target']}" in service["command"]
    assert list((ROOT / "dashboards/rules").glob(Path(pattern).name))


def test_prometheus_remembers_longer_than_the_budgets(compose: dict[str, Any]) -> None:
    (days,) = re.findall(r"retention\.time=(\d+)d", " ".join(compose["services"]["prometheus"]["command"]))
    assert int(days) > 30


def test_promtool_accepts_it(compose: dict[str, Any], tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    token = tmp_path / "token"
    token.write_text("secret")
    text = compose["configs"]["prometheus"]["content"].replace("/run/secrets/metrics_token", str(token))
    (tmp_path / "prometheus.yml").write_text(text)
    shutil.copytree(ROOT / "dashboards/rules", tmp_path / "rules")
    done = subprocess.run([promtool, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_grafana_does_not_start_without_a_password(compose: dict[str, Any]) -> None:
    shell, option, script = compose["services"]["grafana"]["entrypoint"]
    script = script.replace("$$", "$").replace("/run.sh", "echo started")

    def start(password: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": "/usr/bin:/bin", "GF_SECURITY_ADMIN_PASSWORD": password}
        return subprocess.run(
            [shell, option, script.replace("exec echo", "echo")], env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    assert start("a password").stdout == "started\n"
    refused = start("")
    assert refused.returncode != 0
    assert "set GRAFANA_PASSWORD in .env" in refused.stderr
    assert compose["services"]["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == "${GRAFANA_PASSWORD:-}"


def test_grafana_reads_the_committed_dashboards(compose: dict[str, Any]) -> None:
    mounts = _mounts(compose["services"]["grafana"])
    (provider,) = _provisioned("dashboards")["providers"]
    assert (ROOT / mounts[provider["options"]["path"]]).samefile(DASHBOARDS_DIR)
    home = Path(compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (ROOT / mounts[str(home.parent)] / home.name).is_file()
    assert not provider["allowUiUpdates"]
    for folder in ("datasources", "dashboards"):
        assert (ROOT / mounts[f"/etc/grafana/provisioning/{folder}"]).samefile(PROVISIONING / folder)


def test_runbooks_are_where_the_panels_say(compose: dict[str, Any]) -> None:
    mounts = _mounts(compose["services"]["grafana"])
    assert mounts[WEB_ROOT + RUNBOOKS_PATH] == "./dashboards/runbooks"


def test_grafana_knows_how_often_is_scraped_and_where_traces_are() -> None:
    (source,) = (each for each in _provisioned("datasources")["datasources"] if each["type"] == "prometheus")
    every = prometheus_config(Addresses(), TimeScale())["global"]["scrape_interval"]
    assert source["isDefault"]
    assert source["jsonData"]["timeInterval"] == every
    (exemplars,) = source["jsonData"]["exemplarTraceIdDestinations"]
    assert exemplars["name"] == "trace_id"
    assert exemplars["url"].endswith("/trace/$${__value.raw}")


def test_the_data_source_is_of_the_version_that_runs(compose: dict[str, Any]) -> None:
    (source,) = (each for each in _provisioned("datasources")["datasources"] if each["type"] == "prometheus")
    assert compose["services"]["prometheus"]["image"].endswith(f":v{source['jsonData']['prometheusVersion']}")
