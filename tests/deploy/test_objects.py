"""What the chart makes is what Kubernetes, KubeRay and the Prometheus operator know, and nothing is left over."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import kubernetes_validate
import pytest
from pydantic import ValidationError

from deploy.render import RAY_SERVICE, ray_service, render, values
from tests.deploy.conftest import Objects, containers, only, pods
from tests.deploy.crds import violations
from tests.deploy.custom_resources import KINDS

KUBERNETES = ("1.29", "1.33", "1.37")  # the oldest that Chart.yaml takes, to the newest whose schemas there are


def _own(objects: Objects) -> Objects:
    return [each for each in objects if each["kind"] not in KINDS]


@pytest.mark.parametrize("version", KUBERNETES)
def test_objects_follow_kubernetes_schemas(rendered: Objects, version: str) -> None:
    for each in _own(rendered):
        kubernetes_validate.validate(each, version, strict=True)
    for name, template in pods(rendered):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": template}
        kubernetes_validate.validate(pod, version, strict=True)


def test_a_wrong_field_would_be_found(rendered: Objects) -> None:
    policy = copy.deepcopy(next(each for each in rendered if each["kind"] == "NetworkPolicy"))
    policy["spec"]["ingres"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="ingres"):
        kubernetes_validate.validate(policy, KUBERNETES[0], strict=True)


def test_custom_resources_have_the_documented_fields(rendered: Objects) -> None:
    for each in rendered:
        if each["kind"] in KINDS:
            KINDS[each["kind"]].model_validate(each)


def test_a_wrong_field_of_a_custom_resource_would_be_found(rendered: Objects) -> None:
    service = copy.deepcopy(only(rendered, "RayService"))
    service["spec"]["rayClusterConfig"]["workerGroupSpec"] = []
    with pytest.raises(ValidationError, match="workerGroupSpec"):
        KINDS["RayService"].model_validate(service)


def test_definitions_of_operators_are_taken_strictly() -> None:
    """Of ``tests.deploy.crds``: what a definition does not name is told, and what it leaves open is not."""
    schema = {
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": {
                "type": "object",
                "properties": {
                    "size": {"x-kubernetes-int-or-string": True},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            },
        },
    }
    names, versions = {"kind": "Thing"}, [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]
    definition = {"spec": {"group": "example.com", "names": names, "versions": versions}}

    def told(spec: dict[str, Any]) -> list[str]:
        thing = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a", "labels": {}}, "spec": spec}
        return list(violations(definition, [thing]))

    assert told({"size": "1Gi", "labels": {"any": "thing"}}) == told({"size": 3}) == []
    assert len(told({"sizes": 1})) == 1
    assert len(told({"labels": {"any": 1}})) == 1


def test_every_object_has_a_name_of_its_own(rendered: Objects) -> None:
    names = Counter((each["kind"], each["metadata"]["name"]) for each in rendered)
    assert names.most_common(1)[0][1] == 1


def test_selectors_find_their_pods(rendered: Objects) -> None:
    templates = [template["metadata"]["labels"] for _, template in pods(rendered)]
    for each in rendered:
        spec = each.get("spec", {})
        selector = spec.get("podSelector", spec.get("selector"))
        if selector:
            wanted = selector.get("matchLabels", selector)
            assert any(wanted.items() <= labels.items() for labels in templates), each["metadata"]["name"]


def test_the_plain_manifest_is_the_charts() -> None:
    assert RAY_SERVICE.read_text() == ray_service(), "make manifest"


def test_disruption_budgets_name_a_smallest_number(rendered: Objects) -> None:
    """Kubernetes refuses evictions altogether under maxUnavailable when it cannot ask a pod's owner for its size."""
    budgets = [each["spec"] for each in rendered if each["kind"] == "PodDisruptionBudget"]
    assert budgets
    for budget in budgets:
        assert isinstance(budget["minAvailable"], int)
        assert budget["minAvailable"] >= 1
        assert "maxUnavailable" not in budget


def test_what_is_switched_off_is_not_made() -> None:
    off = {**values("trial"), "networkPolicy": {"enabled": False}, "gcsFaultTolerance": {"enabled": False}}
    off |= {"postgresql": {"bundled": False}, "valkey": {"bundled": False}}
    (alone,) = {each["kind"] for each in render(off)} - {"PodDisruptionBudget"}
    assert alone == "RayService"


def test_images_are_the_ones_compose_has(rendered: Objects, compose_images: dict[str, str]) -> None:
    for name, template in pods(rendered):
        part = name.removeprefix("tutti-").replace("gcs", "valkey")
        for container in containers(template):
            assert container["image"] == compose_images.get(part, "tutti:0.1.0")
