"""serve_config.yaml is valid for Serve and for us, and a typo in it is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from ray import serve
from ray.serve.schema import ServeDeploySchema

from autoscaling.fairness import Places
from deployments.gateway import Gateway
from deployments.platform import DEFAULT_CONFIG
from deployments.settings import AppArgs, ModelArgs


def shipped() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(DEFAULT_CONFIG.read_text())
    return config


def shipped_args() -> dict[str, Any]:
    args: dict[str, Any] = shipped()["applications"][0]["args"]
    return args


def test_the_shipped_config_is_a_serve_config() -> None:
    config = ServeDeploySchema.model_validate(shipped())
    assert [application.name for application in config.applications] == ["tutti"]
    assert config.http_options.host == "127.0.0.1"


def test_every_size_is_there_and_what_comes_with_the_repository_is_on() -> None:
    args = AppArgs.model_validate(shipped_args())
    assert set(args.models) == {"tiny", "tiny-melody", "small", "medium", "large"}
    assert list(args.enabled) == ["tiny", "tiny-melody"]  # the first is who is meant by requests that name none


def test_only_the_model_that_is_meant_when_none_is_named_is_awake_from_the_start() -> None:
    replicas = {
        name: model["deployment"]["autoscaling_config"]["min_replicas"]
        for name, model in shipped_args()["models"].items()
        if model["enabled"]
    }
    assert replicas == {"tiny": 1, "tiny-melody": 0}


def test_the_gateway_sees_no_gpu_and_outlives_every_model() -> None:
    gateway = shipped()["applications"][0]["deployments"][0]
    assert gateway["ray_actor_options"]["runtime_env"]["env_vars"] == {"CUDA_VISIBLE_DEVICES": ""}
    graces = [model["deployment"]["graceful_shutdown_timeout_s"] for model in shipped_args()["models"].values()]
    assert gateway["graceful_shutdown_timeout_s"] > max(graces)


@pytest.mark.parametrize("model", ["tiny", "tiny-melody", "small", "medium", "large"])
def test_a_replica_admits_its_batch_and_a_small_prefetch(model: str) -> None:
    """Work admitted to a replica never moves to another one, so little waits inside."""
    values = shipped_args()["models"][model]
    guided_slots = values["engine"]["max_rows"] // 2
    waiting = values["deployment"]["max_ongoing_requests"] - guided_slots
    assert 0 < waiting <= min(4, values["engine"]["max_queue"])


@pytest.mark.parametrize("model", ["small", "medium", "large"])
def test_what_runs_on_a_gpu_captures_its_steps(model: str) -> None:
    engine = ModelArgs.model_validate(shipped_args()["models"][model]).engine_config()
    assert (engine.device, engine.graph) == ("cuda", True)


@pytest.mark.parametrize("model", ["tiny", "tiny-melody", "small", "medium", "large"])
def test_every_size_is_switched_by_one_line(model: str) -> None:
    args = shipped_args()
    args["models"][model]["enabled"] = True
    assert model in AppArgs.model_validate(args).enabled


@pytest.mark.parametrize(
    ("place", "key", "value", "complaint"),
    [
        ((), "enable", True, "enable"),
        ((), "checkpoint", None, "has no checkpoint"),
        (("engine",), "max_row", 4, "max_row"),
        (("engine",), "max_rows", 0, "max_rows"),
        (("deployment",), "max_ongoing_request", 4, "'max_ongoing_request'"),
        (("deployment",), "max_ongoing_requests", 0, "max_ongoing_requests"),
        (("deployment",), "num_replicas", "automatic", "must be an int or .auto."),
        (("deployment",), "num_replicas", 2, "not allowed when autoscaling_config is provided"),
        (("deployment", "autoscaling_config"), "max_replica", 2, "'max_replica'"),
        (("deployment", "autoscaling_config"), "min_replicas", -1, "min_replicas"),
        (("deployment", "ray_actor_options"), "num_gpu", 1, "'num_gpu'"),
    ],
)
def test_a_wrong_value_is_refused_by_name(place: tuple[str, ...], key: str, value: Any, complaint: str) -> None:
    args = shipped_args()
    target = args["models"]["tiny"]
    for step in place:
        target = target[step]
    target[key] = value
    with pytest.raises(ValidationError, match=complaint):
        AppArgs.model_validate(args)


@pytest.mark.parametrize(
    ("options", "slots"),
    [
        ({}, 5),  # one replica, and Serve's own five requests for each
        ({"num_replicas": 3}, 15),
        ({"num_replicas": 3, "max_ongoing_requests": 7}, 21),
        ({"autoscaling_config": {"max_replicas": 4}}, 20),
        ({"autoscaling_config": {"target_ongoing_requests": 2}}, 5),
        ({"num_replicas": "auto"}, 500),  # Serve's own hundred replicas
        ({"num_replicas": "auto", "max_ongoing_requests": 2}, 200),
        ({"num_replicas": "auto", "autoscaling_config": {"max_replicas": 4}}, 20),
        ({"num_replicas": "auto", "autoscaling_config": {"min_replicas": 2}}, 500),
    ],
)
def test_slots_are_what_all_replicas_take_at_most(options: dict[str, Any], slots: int) -> None:
    args = shipped_args()["models"]["tiny"]
    assert ModelArgs.model_validate({**args, "deployment": options}).slots == slots


def test_places_are_those_of_one_replica_and_what_is_at_hand_beyond_the_guided_ones_that_it_plays() -> None:
    args = {"checkpoint": "tiny", "engine": {"max_rows": 16}}
    assert ModelArgs.model_validate({**args, "deployment": {"max_ongoing_requests": 10}}).places == Places(10, 2)
    assert ModelArgs.model_validate({**args, "deployment": {"max_ongoing_requests": 6}}).places == Places(6, 0)


@pytest.mark.parametrize("options", [{}, {"autoscaling_config": {"max_replicas": 4}}])
def test_serve_itself_takes_an_automatic_number_of_replicas_so(options: dict[str, Any]) -> None:
    """What is computed here is what Serve decides."""
    options = {"num_replicas": "auto", **options}
    decided = serve.deployment(Gateway).options(name="checked", **options)._deployment_config
    assert decided.autoscaling_config.max_replicas * decided.max_ongoing_requests == (
        ModelArgs(checkpoint="tiny", deployment=options).slots
    )


def test_no_model_at_all_is_refused() -> None:
    args = shipped_args()
    for model in args["models"].values():
        model["enabled"] = False
    with pytest.raises(ValidationError, match="no model is switched on"):
        AppArgs.model_validate(args)
