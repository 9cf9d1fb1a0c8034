"""The custom resources that the chart makes, as their operators document them: unknown or missing fields are refused.

Written from the API references of KubeRay 1.7 (``ray.io/v1``) and of the Prometheus operator 0.9x; only what the chart
uses. ``tests.deploy.crds`` compares with the operators' own definitions where those are at hand.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

Quantities = dict[str, str | int]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class Metadata(_Strict):
    name: str = Field(max_length=50)  # KubeRay appends to it, and a name of a Service has 63
    labels: dict[str, str]


class SecretKey(_Strict):
    name: str
    key: str


class _SecretSource(_Strict):
    secret_key_ref: SecretKey


class _FromSecret(_Strict):
    value_from: _SecretSource


# --------------------------------------------------------------------------------------------- KubeRay
class _Resources(_Strict):
    requests: Quantities
    limits: Quantities


class AutoscalerOptions(_Strict):
    version: Literal["v1", "v2"]
    upscaling_mode: Literal["Default", "Aggressive", "Conservative"]
    resources: _Resources
    security_context: dict[str, Any]
    volume_mounts: list[dict[str, Any]]


class GcsFaultTolerance(_Strict):
    redis_address: str
    redis_password: _FromSecret


class HeadGroup(_Strict):
    ray_start_params: dict[str, str]
    template: dict[str, Any]


class WorkerGroup(HeadGroup):
    group_name: str
    labels: dict[str, str]
    replicas: int = Field(ge=0)
    min_replicas: int = Field(ge=0)
    max_replicas: int = Field(ge=1)
    idle_timeout_seconds: int = Field(ge=0)  # the autoscaler's version 2 reads it

    @model_validator(mode="after")
    def _ordered(self) -> WorkerGroup:
        assert self.min_replicas <= self.replicas <= self.max_replicas
        return self


class AuthOptions(_Strict):
    mode: Literal["disabled", "token"]


class RayClusterSpec(_Strict):
    ray_version: str
    auth_options: AuthOptions
    enable_in_tree_autoscaling: bool
    autoscaler_options: AutoscalerOptions
    gcs_fault_tolerance_options: GcsFaultTolerance | None = None
    head_group_spec: HeadGroup
    worker_group_specs: list[WorkerGroup]


class UpgradeStrategy(_Strict):
    type: Literal["NewCluster", "NewClusterWithIncrementalUpgrade", "None"]


class RayServiceSpec(_Strict):
    upgrade_strategy: UpgradeStrategy
    ray_cluster_deletion_delay_seconds: int = Field(ge=0)
    exclude_head_pod_from_serve_svc: bool
    serve_config_v2: str
    ray_cluster_config: RayClusterSpec


class RayService(_Strict):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayService"]
    metadata: Metadata
    spec: RayServiceSpec


# ------------------------------------------------------------------------------------------ Prometheus
class _Authorization(_Strict):
    credentials: SecretKey


class HttpSd(_Strict):
    url: str = Field(pattern=r"^http://[^/]+:8000/metrics/targets$")
    refresh_interval: str
    authorization: _Authorization


class ScrapeConfigSpec(_Strict):
    job_name: str
    scrape_interval: str
    authorization: _Authorization
    http_sd_configs: list[HttpSd] = Field(alias="httpSDConfigs")


class ScrapeConfig(_Strict):
    api_version: Literal["monitoring.coreos.com/v1alpha1"]
    kind: Literal["ScrapeConfig"]
    metadata: Metadata
    spec: ScrapeConfigSpec


class Rule(_Strict):
    alert: str | None = None
    record: str | None = None
    expr: str | int
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    keep_firing_for: str | None = Field(default=None, alias="keep_firing_for")
    for_: str | None = Field(default=None, alias="for")


class RuleGroup(_Strict):
    name: str
    interval: str | None = None
    rules: list[Rule]


class PrometheusRuleSpec(_Strict):
    groups: list[RuleGroup]


class PrometheusRule(_Strict):
    api_version: Literal["monitoring.coreos.com/v1"]
    kind: Literal["PrometheusRule"]
    metadata: Metadata
    spec: PrometheusRuleSpec


KINDS: dict[str, type[_Strict]] = {
    "RayService": RayService,
    "ScrapeConfig": ScrapeConfig,
    "PrometheusRule": PrometheusRule,
}
