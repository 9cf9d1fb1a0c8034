"""The chart's Serve config is the repository's, with what values say laid over it, and every replica finds a place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from deploy.render import render, values
from deployments.demand_settings import check_policy
from deployments.serve_config import DEFAULT_CONFIG
from deployments.settings import AppArgs
from tests.deploy.conftest import containers, groups, only

# Where the chart may differ with the values of `trial`; every path of serve_config.yaml, lists by their index.
CHANGED = {
    "http_options.host": "0.0.0.0",
    "logging_config.encoding": "JSON",
    **{
        f"applications.0.deployments.{i}.{name}": value
        for i in (0, 1)
        for name, value in {
            "autoscaling_config.min_replicas": 2,
            "autoscaling_config.max_replicas": 2,
            "max_replicas_per_node": 1,
            "max_surge_percent": 0,
            "ray_actor_options.label_selector.pool": "ingress",
        }.items()
    },
    "applications.0.args.models.tiny.deployment.ray_actor_options.label_selector.pool": "cpu",
    "applications.0.args.models.tiny-melody.enabled": False,
}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list) and value:
        for name, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(each, f"{path}.{name}" if path else str(name))
    else:
        yield path, value


def _actors(serve_config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Deployment or enabled model → its Serve options."""
    application = serve_config["applications"][0]
    models = application["args"]["models"]
    return {
        **{each["name"]: each for each in application["deployments"]},
        **{name: model["deployment"] for name, model in models.items() if model["enabled"]},
    }


def test_it_is_the_repositorys_but_for_what_is_said() -> None:
    service = only(render(values("trial")), "RayService")
    ours = dict(_flat(yaml.safe_load(DEFAULT_CONFIG.read_text())))
    its = dict(_flat(yaml.safe_load(service["spec"]["serveConfigV2"])))
    assert set(ours) <= set(its)
    assert {path: value for path, value in its.items() if path not in ours or ours[path] != value} == CHANGED


def test_serve_and_the_platform_take_it(serve_config: dict[str, Any]) -> None:
    config = ServeDeploySchema.model_validate(serve_config)
    (application,) = config.applications
    check_policy(application.autoscaling_policy)
    assert AppArgs.model_validate(application.args).enabled
    assert config.proxy_location == "EveryNode"


def test_every_replica_has_a_pool_that_can_hold_it(ray_service: dict[str, Any], serve_config: dict[str, Any]) -> None:
    pools = groups(ray_service)
    for name, options in _actors(serve_config).items():
        actor = options["ray_actor_options"]
        pool = pools[actor["label_selector"]["pool"]]
        assert pool["labels"] == {"pool": actor["label_selector"]["pool"]}
        (container,) = pool["template"]["spec"]["containers"]
        limits = container["resources"]["limits"]
        assert float(actor["num_cpus"]) <= float(limits["cpu"]), name
        assert float(actor.get("num_gpus", 0)) <= float(limits.get("nvidia.com/gpu", 0)), name
        per_node = options.get("max_replicas_per_node")
        if per_node:
            assert options["autoscaling_config"]["max_replicas"] <= per_node * pool["minReplicas"], name


def test_pools_hold_the_most_replicas_at_once(ray_service: dict[str, Any], serve_config: dict[str, Any]) -> None:
    """Of GPUs: when all models of a pool have as many replicas as they may, they fit on its largest size."""
    for pool, group in groups(ray_service).items():
        if pool == "head":
            continue
        gpus = containers(group["template"])[0]["resources"]["limits"].get("nvidia.com/gpu", 0)
        wanted = sum(
            options["ray_actor_options"].get("num_gpus", 0) * options["autoscaling_config"]["max_replicas"]
            for options in _actors(serve_config).values()
            if options["ray_actor_options"]["label_selector"]["pool"] == pool
        )
        assert wanted <= gpus * group["maxReplicas"]


def test_the_head_carries_no_replica(ray_service: dict[str, Any]) -> None:
    head = groups(ray_service)["head"]
    assert head["rayStartParams"]["num-cpus"] == head["rayStartParams"]["num-gpus"] == "0"


def test_an_old_cluster_stays_longer_than_its_longest_stream(
    ray_service: dict[str, Any], serve_config: dict[str, Any]
) -> None:
    longest_s = max(options["graceful_shutdown_timeout_s"] for options in _actors(serve_config).values())
    assert ray_service["spec"]["rayClusterDeletionDelaySeconds"] > longest_s


@pytest.mark.parametrize("pools", [["a"], ["a", "b"]])
def test_a_model_may_have_several_pools(pools: list[str]) -> None:
    pool = {"minReplicas": 1, "maxReplicas": 1, "idleTimeoutSeconds": 60, "models": ["tiny"]}
    pool["resources"] = {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"cpu": 1, "memory": "1Gi"}}
    given = {**values("trial"), "pools": {"cpu": None, **dict.fromkeys(pools, pool)}}
    config = yaml.safe_load(only(render(given), "RayService")["spec"]["serveConfigV2"])
    selector = _actors(config)["tiny"]["ray_actor_options"]["label_selector"]
    assert selector == {"pool": "a" if pools == ["a"] else "in(a,b)"}
