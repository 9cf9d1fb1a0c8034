"""The policy of ``serve_config.yaml`` in Ray's own wrapper: pickled, made and called as its controller does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from ray.serve._private.autoscaling_state import _resolve_policy_callable
from ray.serve._private.common import DeploymentID, ReplicaID, TimeStampedValue
from ray.serve.autoscaling_policy import _apply_app_level_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from deployments.demand_settings import POLICY, DemandSettings
from deployments.platform import DEFAULT_CONFIG, PlatformError
from deployments.serve_config import load_config
from tests.deployments.conftest import ConfigWriter

NOW = 1_000_000.0
GATEWAY, WORKER, TINY = (DeploymentID(name, "tutti") for name in ("Gateway", "Worker", "musicgen-tiny"))
IDLE = {
    GATEWAY: {"tiny:short_s": 0.0, "tiny:medium_s": 0.0, "tiny:long_s": 0.0, "tiny:dispersion": 1.0},
    WORKER: {"looked_s_ago": 0.5, "tiny:queued": 0.0, "tiny:stream_s": 0.0, "tiny:sent_stream_s": 0.0},
    TINY: {"streams": 0.0, "running_audio_s": 0.0, "capacity_audio_s_per_s": 0.0, "startup_s": 2.0},
}
Wrapped = Callable[[dict[Any, Any]], tuple[dict[Any, int], dict[Any, dict[str, Any]]]]


def application() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(DEFAULT_CONFIG.read_text())["applications"][0]
    return found


class Controller:
    """Serve's side: as many replicas as were decided are there at once.

    Args:
        asleep: none of the model is, and none comes to serve; somebody waits for it in a handle.
    """

    def __init__(self, *, asleep: bool = False) -> None:
        self._asleep = asleep
        found = application()
        self.policy: Wrapped = _apply_app_level_autoscaling_config(
            _resolve_policy_callable(AutoscalingPolicy(**found["autoscaling_policy"]))
        )
        self._configs = {
            DeploymentID(each["name"], "tutti"): AutoscalingConfig(**each["autoscaling_config"])
            for each in found["deployments"]
        }
        tiny = found["args"]["models"]["tiny"]["deployment"]["autoscaling_config"]
        self._configs[TINY] = AutoscalingConfig(**(tiny | {"min_replicas": 0 if asleep else 1, "max_replicas": 2}))
        self.replicas = dict.fromkeys(self._configs, 1) | ({TINY: 0} if asleep else {})
        self.states: dict[Any, dict[str, Any]] = {}

    def tick(self, now: float, **changes: float) -> int:
        """Replicas of the model after it."""
        told = {each: {name: changes.get(name.replace(":", "_"), value) for name, value in values.items()}
                for each, values in IDLE.items()}  # fmt: skip
        decided, self.states = self.policy({each: self._context(each, told[each], now) for each in self._configs})
        assert set(decided) == set(self._configs)
        self.replicas = decided
        return decided[TINY]

    def _context(self, deployment: Any, values: dict[str, float], now: float) -> AutoscalingContext:
        config, number = self._configs[deployment], self.replicas[deployment]
        serving = 0 if self._asleep and deployment == TINY else number
        ids = [ReplicaID(f"r{index}", deployment) for index in range(serving)]
        reports = (
            {name: {ids[0]: [TimeStampedValue(now - 1.0, value)]} for name, value in values.items()} if ids else {}
        )
        return AutoscalingContext(
            deployment_id=deployment,
            deployment_name=deployment.name,
            app_name="tutti",
            current_num_replicas=serving,
            target_num_replicas=number,
            running_replicas=ids,
            total_num_requests=0.0 if serving else 1.0,
            total_queued_requests=0.0,
            aggregated_metrics={},
            raw_metrics=lambda: reports,
            capacity_adjusted_min_replicas=config.min_replicas,
            capacity_adjusted_max_replicas=config.max_replicas,
            policy_state=self.states.get(deployment, {}),
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=now,
            config=config,
        )


def test_replicas_of_the_file_follow_the_work_and_come_back() -> None:
    controller = Controller()
    assert controller.tick(NOW) == 1
    assert controller.tick(NOW + 1, tiny_sent_stream_s=2000.0) == 2
    assert (controller.states[TINY]["action"], controller.states[TINY]["reason"]) == ("up", "ceiling")
    break_even_s = application()["autoscaling_policy"]["policy_kwargs"]["models"]["tiny"]["break_even_s"]
    assert controller.tick(NOW + break_even_s) == 2
    assert controller.states[TINY]["reason"] == "held"
    assert controller.tick(NOW + break_even_s + 2) == 1
    assert (controller.states[TINY]["action"], controller.states[TINY]["reason"]) == ("down", "floor")
    assert controller.replicas == {GATEWAY: 1, WORKER: 1, TINY: 1}


def test_from_zero_a_crowd_gets_all_replicas_at_once() -> None:
    controller = Controller(asleep=True)
    assert controller.tick(NOW) == 1  # Serve's own first step, before anybody has reported
    assert controller.tick(NOW + 1, tiny_sent_stream_s=2000.0) == 2
    assert controller.tick(NOW + 2, tiny_sent_stream_s=2000.0) == 2


def test_the_file_describes_every_size_that_it_has() -> None:
    found = application()
    described = DemandSettings(**found["autoscaling_policy"]["policy_kwargs"]).models
    assert found["autoscaling_policy"]["policy_function"] == POLICY
    assert set(described) == set(found["args"]["models"])
    for name, model in found["args"]["models"].items():
        actor = model["deployment"]["ray_actor_options"]
        assert described[name].gpu_share == actor["num_gpus"]
        assert described[name].streams == model["engine"]["max_rows"] // 2  # guided ones, as most are
        delays = model["deployment"]["autoscaling_config"]
        assert (delays["upscale_delay_s"], delays["downscale_delay_s"]) == (
            0,
            0,
        )  # Serve would add them to the policy's


def test_a_typo_in_the_policys_options_is_refused(write_config: ConfigWriter) -> None:
    path = write_config()
    path.write_text(path.read_text().replace("cold_start_s", "cold_start"))
    with pytest.raises(PlatformError, match="cold_start"):
        load_config(path)
