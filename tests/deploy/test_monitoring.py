"""Prometheus gets the rules that `tutti slo build` makes, and the list of replicas that the API tells."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from deploy.render import render, values
from tests.deploy.conftest import ROOT, Objects, only

RULES = ROOT / "dashboards/rules"


@pytest.fixture(scope="module")
def objects() -> Objects:
    return render(values("gpu"))


def test_the_rules_are_those_of_the_repository(objects: Objects) -> None:
    its = {
        each["metadata"]["name"].removeprefix("tutti-"): each["spec"]
        for each in objects
        if each["kind"] == "PrometheusRule"
    }
    assert its == {path.stem: yaml.safe_load(path.read_text()) for path in RULES.glob("*.yml")}


def test_every_object_bears_the_labels_that_prometheus_selects_by(objects: Objects) -> None:
    for each in objects:
        if each["apiVersion"].startswith("monitoring"):
            assert each["metadata"]["labels"]["release"] == "prometheus"


def test_replicas_are_scraped_as_the_repositorys_prometheus_does(objects: Objects) -> None:
    scrape = only(objects, "ScrapeConfig")["spec"]
    (ours,) = (
        job
        for job in yaml.safe_load((ROOT / "dashboards/prometheus.yml").read_text())["scrape_configs"]
        if "http_sd_configs" in job
    )
    assert scrape["jobName"] == ours["job_name"]
    (found,), (its,) = ours["http_sd_configs"], scrape["httpSDConfigs"]
    assert its["url"].partition(":8000")[2] == found["url"].partition(":8000")[2]
    assert its["url"].startswith("http://tutti-serve-svc.")  # as KubeRay calls it
    assert its["authorization"] == scrape["authorization"] == {"credentials": _token()}


def _token() -> dict[str, Any]:
    return {"name": "tutti", "key": "TUTTI_METRICS_TOKEN"}


def test_rules_ask_for_the_name_of_the_job(objects: Objects) -> None:
    asked = {name for path in RULES.glob("*.yml") for name in re.findall(r'job="([^"]+)"', path.read_text())}
    assert asked == {only(objects, "ScrapeConfig")["spec"]["jobName"]}
