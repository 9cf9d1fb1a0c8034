"""The chart's two examples, rendered once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.render import render, values

ROOT = Path(__file__).resolve().parents[2]
Objects = list[dict[str, Any]]
EXAMPLES = ("trial", "gpu")


@pytest.fixture(scope="session", params=EXAMPLES)
def example(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def rendered(example: str) -> Objects:
    return render(values(example))


@pytest.fixture(scope="session")
def ray_service(rendered: Objects) -> dict[str, Any]:
    return only(rendered, "RayService")


@pytest.fixture(scope="session")
def serve_config(ray_service: dict[str, Any]) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(ray_service["spec"]["serveConfigV2"])
    return loaded


def only(objects: Objects, kind: str) -> dict[str, Any]:
    (found,) = (each for each in objects if each["kind"] == kind)
    return found


def groups(ray_service: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name → what the cluster's spec says of the head and of each pool."""
    cluster = ray_service["spec"]["rayClusterConfig"]
    return {"head": cluster["headGroupSpec"], **{each["groupName"]: each for each in cluster["workerGroupSpecs"]}}


def pods(objects: Objects) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and template of every pod that a release makes."""
    for each in objects:
        if each["kind"] == "RayService":
            for name, group in groups(each).items():
                yield name, group["template"]
        elif "template" in each.get("spec", {}):
            yield each["metadata"]["name"], each["spec"]["template"]


def containers(template: dict[str, Any]) -> list[dict[str, Any]]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


@pytest.fixture(scope="session")
def compose_images() -> dict[str, str]:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    return {name: service["image"] for name, service in services.items() if name != "tutti"}
