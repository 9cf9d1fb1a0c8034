"""Pods: what they may do, what they are told, and how Kubernetes sees that they are well."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from api.environment import PREFIX
from api.settings import Settings
from deploy.render import CHART
from deployments import local_ray
from tests.deploy.conftest import ROOT, Objects, containers, groups, pods

DOCKERFILE = (ROOT / "Dockerfile").read_text()
SECRETS = {
    "TUTTI_SECRET_KEY": "A" * 43 + "=",
    "TUTTI_MASTER_KEYS": "1:" + "A" * 43 + "=",
    "TUTTI_METRICS_TOKEN": "m" * 32,
    "TUTTI_DATABASE_URL": "postgresql://tutti:secret@database/tutti",
    "TUTTI_REDIS_URL": "redis://:secret@cache:6379/0",
    "VALKEY_PASSWORD": "valkey",
    "POSTGRES_PASSWORD": "postgres",
}


def _platform(ray_service: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for group in groups(ray_service).values() for each in containers(group["template"])]


def _environment(container: dict[str, Any]) -> dict[str, str]:
    """What Kubernetes makes of it, with those secrets."""
    found: dict[str, str] = {}
    for entry in container["env"]:
        if "value" in entry:
            found[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], entry["value"])
            continue
        if "fieldRef" in entry["valueFrom"]:
            continue
        reference = entry["valueFrom"]["secretKeyRef"]
        assert reference["key"] in SECRETS or reference.get("optional")
        if reference["key"] in SECRETS:
            found[entry["name"]] = SECRETS[reference["key"]]
    return found


def test_no_process_may_more_than_it_needs(rendered: Objects) -> None:
    for name, template in pods(rendered):
        pod = template["spec"]["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert pod["runAsUser"] > 0
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(template):
            its = container["securityContext"]
            assert its["allowPrivilegeEscalation"] is False, name
            assert its["readOnlyRootFilesystem"] is True, name
            assert its["capabilities"] == {"drop": ["ALL"]}, name
        # The autoscaler beside the head asks the Kubernetes API; nobody else does.
        assert name == "head" or template["spec"]["automountServiceAccountToken"] is False


def test_the_user_is_the_images(ray_service: dict[str, Any]) -> None:
    (user,) = re.findall(r"^USER (\d+):", DOCKERFILE, flags=re.MULTILINE)
    assert {each["template"]["spec"]["securityContext"]["runAsUser"] for each in groups(ray_service).values()} == {
        int(user)
    }


def test_every_container_says_what_it_needs(rendered: Objects) -> None:
    for name, template in pods(rendered):
        for container in containers(template):
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"]), name
            assert "memory" in resources["limits"], name


def test_every_server_has_probes(rendered: Objects) -> None:
    for name, template in pods(rendered):
        for container in template["spec"]["containers"]:
            assert {"readinessProbe", "livenessProbe"} <= set(container), name
            for probe in (container["readinessProbe"], container["livenessProbe"]):
                if "httpGet" in probe and isinstance(probe["httpGet"]["port"], str):
                    assert probe["httpGet"]["port"] in {port["name"] for port in container["ports"]}


def test_services_of_the_namespace_do_not_become_variables(rendered: Objects) -> None:
    """A Service called tutti-… would be TUTTI_…_SERVICE_HOST in every pod, which the platform refuses as unknown."""
    for name, template in pods(rendered):
        assert template["spec"]["enableServiceLinks"] is False, name


def test_production_takes_the_environment(ray_service: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for container in _platform(ray_service):
        with monkeypatch.context() as patch:
            for name, value in _environment(container).items():
                if name.startswith(PREFIX):
                    patch.setenv(name, value)
            settings = Settings()
            assert settings.environment == "production"
            assert settings.metrics_host == "0.0.0.0"
            assert settings.metrics_token
            assert settings.storage_url.startswith("s3://")
            assert settings.database_url.startswith("postgresql://")
            assert settings.default_model


def test_no_secret_stands_in_the_manifest(rendered: Objects) -> None:
    assert "Secret" not in {each["kind"] for each in rendered}
    for name, template in pods(rendered):
        for container in containers(template):
            for entry in container["env"]:
                secret = re.search(r"PASSWORD|KEY|TOKEN", entry["name"])
                assert not secret or "valueFrom" in entry, f"{name}: {entry['name']}"


def test_addresses_in_the_environment_are_services_that_are_made(
    rendered: Objects, ray_service: dict[str, Any]
) -> None:
    made = {each["metadata"]["name"] for each in rendered if each["kind"] == "Service"}
    addresses = [
        _environment(each)[name] for each in _platform(ray_service) for name in SECRETS if name.endswith("_URL")
    ]
    addresses += [ray_service["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]["redisAddress"]]
    hosts = {host for each in addresses if (host := urlsplit(each).hostname) not in ("database", "cache")}
    assert hosts == made


def test_ray_is_told_what_it_is_told_on_one_machine(ray_service: dict[str, Any]) -> None:
    """What ``tutti serve`` sets where it starts Ray itself, and the image has not."""
    on_one_machine = local_ray._ENVIRONMENT
    for container in _platform(ray_service):
        told = {name: value for name, value in _environment(container).items() if name.startswith("RAY_")}
        assert told.items() <= on_one_machine.items()
        in_image = {name for name in on_one_machine if f"{name}=" in DOCKERFILE}
        # A driver that connects by itself is a thing of one process on one machine.
        assert set(told) | in_image == set(on_one_machine) - {"RAY_ENABLE_AUTO_CONNECT"}


def test_what_is_written_to_is_mounted(ray_service: dict[str, Any]) -> None:
    (data,) = re.findall(r"TUTTI_DATA_DIR=(\S+)", DOCKERFILE)
    home = "/home/tutti"
    assert re.search(r"useradd --create-home .* tutti\b", DOCKERFILE)
    for group in groups(ray_service).values():
        volumes = {volume["name"] for volume in group["template"]["spec"]["volumes"]}
        for container in containers(group["template"]):
            mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
            assert {"/tmp", home, data} <= set(mounts)
            assert {mount["name"] for mount in mounts.values()} <= volumes


def test_checkpoints_lie_where_the_serve_config_looks(
    ray_service: dict[str, Any], serve_config: dict[str, Any]
) -> None:
    models = serve_config["applications"][0]["args"]["models"].values()
    folders = [model["checkpoint"] for model in models if model["enabled"] and model["checkpoint"] != "tiny"]
    (workdir,) = set(re.findall(r"^WORKDIR (\S+)", DOCKERFILE, flags=re.MULTILINE))
    for container in _platform(ray_service):
        mounted = [each for each in container["volumeMounts"] if each["name"] == "checkpoints"]
        assert bool(mounted) == bool(folders)
        assert all(f"{workdir}/{folder}".startswith(f"{mounted[0]['mountPath']}/") for folder in folders)
        assert all(each["readOnly"] for each in mounted)


@pytest.mark.parametrize(("node_type", "ran"), [("head", "db upgrade\n"), ("redis-cleanup", "")])
def test_the_database_is_migrated_before_the_head_starts(
    ray_service: dict[str, Any], tmp_path: Path, node_type: str, ran: str
) -> None:
    """And not by the job that KubeRay makes of the head's pod to clear what a deleted cluster left."""
    (first,) = groups(ray_service)["head"]["template"]["spec"]["initContainers"]
    assert "TUTTI_DATABASE_URL" in _environment(first)
    (tmp_path / "tutti").write_text("#!/bin/sh\necho $@\n")
    (tmp_path / "tutti").chmod(0o700)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "NODE_TYPE": node_type}
    done = subprocess.run(first["command"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == ran


def test_versions_are_the_projects(ray_service: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"ray[serve]=={ray_service['spec']['rayClusterConfig']['rayVersion']}" in project["dependencies"]
    assert f'appVersion: "{project["version"]}"' in (CHART / "Chart.yaml").read_text()
