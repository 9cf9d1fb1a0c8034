"""Who may talk to whom: read from the policies as Kubernetes would apply them."""

from __future__ import annotations

from typing import Any

from deploy.render import render, values
from tests.deploy.conftest import Objects, pods

PLATFORM = {"app.kubernetes.io/part-of": "tutti", "app.kubernetes.io/instance": "tutti"}


def _matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def _selecting(objects: Objects, labels: dict[str, str], direction: str) -> list[dict[str, Any]]:
    return [
        each["spec"]
        for each in objects
        if each["kind"] == "NetworkPolicy"
        and direction in each["spec"]["policyTypes"]
        and _matches(each["spec"]["podSelector"], labels)
    ]


def _lets_in(policy: dict[str, Any], caller: dict[str, str], port: int, *, same_namespace: bool = True) -> bool:
    for rule in policy["ingress"]:
        on = any(each["port"] <= port <= each.get("endPort", each["port"]) for each in rule.get("ports", [])) or (
            "ports" not in rule
        )
        by = any(
            _matches(peer.get("podSelector", {}), caller) and (same_namespace or "namespaceSelector" in peer)
            for peer in rule["from"]
        )
        if on and by:
            return True
    return False


def _labels(objects: Objects) -> dict[str, dict[str, str]]:
    return {name.removeprefix("tutti-"): template["metadata"]["labels"] for name, template in pods(objects)}


def test_every_pod_is_under_a_policy(rendered: Objects) -> None:
    for name, labels in _labels(rendered).items():
        assert _selecting(rendered, labels, "Ingress"), name
        assert _selecting(rendered, labels, "Egress"), name


def test_stores_are_reached_by_the_platform_only(rendered: Objects) -> None:
    labels = _labels(rendered)
    for store, port in {"valkey": 6379, "gcs": 6379, "postgresql": 5432}.items():
        if store in labels:
            (policy,) = _selecting(rendered, labels[store], "Ingress")
            assert _lets_in(policy, labels["ingress"], port)
            assert _lets_in(policy, labels["head"], port)
            assert not _lets_in(policy, {"app": "stranger"}, port)
            assert not _lets_in(policy, labels["ingress"], port, same_namespace=False)


def test_strangers_reach_the_api_and_nothing_else(rendered: Objects) -> None:
    labels = _labels(rendered)
    for name in ("head", "ingress"):
        (policy,) = _selecting(rendered, labels[name], "Ingress")
        for port in (6379, 8265, 10001, 52365, 30000):
            assert not _lets_in(policy, {"app": "stranger"}, port), port
            assert _lets_in(policy, labels["head"], port)
        operator = {"app.kubernetes.io/name": "kuberay-operator"}
        assert _lets_in(policy, operator, 8265, same_namespace=False)
        assert _lets_in(policy, {"app.kubernetes.io/name": "prometheus"}, 41234, same_namespace=False)


def test_private_networks_are_closed_but_for_what_is_named(rendered: Objects) -> None:
    (policy,) = _selecting(rendered, _labels(rendered)["ingress"], "Egress")
    blocks = [peer["ipBlock"] for rule in policy["egress"] for peer in rule["to"] if "ipBlock" in peer]
    (world,) = (block for block in blocks if block["cidr"] == "0.0.0.0/0")
    assert {"10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"} <= set(world["except"])


def test_who_may_call_the_api_can_be_said() -> None:
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "edge"}}}
    objects = render({**values("trial"), "networkPolicy": {"ingressFrom": [peer]}})
    (policy,) = _selecting(objects, _labels(objects)["ingress"], "Ingress")
    on_the_api = [
        rule["from"] for rule in policy["ingress"] if rule.get("ports") == [{"protocol": "TCP", "port": 8000}]
    ]
    assert on_the_api == [[peer]]
