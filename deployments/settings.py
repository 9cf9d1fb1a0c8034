"""What ``serve_config.yaml`` may say below ``args``: which sizes are on, their checkpoints, engine and replica knobs.

Everything is checked here, once, before a replica is started: a typo is refused and named.
No torch in this module: it runs in the ingress, in Serve's build task and in the command line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from ray.serve._private.constants import DEFAULT_MAX_ONGOING_REQUESTS
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import DeploymentSchema, RayActorOptionsSchema

from autoscaling.fairness import Places
from models.engine_config import EngineConfig
from models.errors import TuttiError

_STRICT = ConfigDict(extra="forbid", frozen=True)


class ModelArgs(BaseModel):
    """One model size.

    Attributes:
        enabled: false switches the size off; its checkpoint is then not looked at.
        checkpoint: "tiny", a name of `tutti models list`, or a folder; relative to the repository root.
        engine: keyword arguments of ``models.engine_config.EngineConfig``.
        deployment: options of one Serve deployment (``ray.serve.schema.DeploymentSchema``, without its name).
    """

    model_config = _STRICT

    enabled: bool = True
    checkpoint: str | None = None
    engine: dict[str, Any] = Field(default_factory=dict)
    deployment: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> ModelArgs:
        if self.enabled and not self.checkpoint:
            raise ValueError("the model is switched on but has no checkpoint: give its folder, or set enabled: false")
        self.engine_config()
        _check_deployment(self.deployment)
        return self

    @property
    def slots(self) -> int:
        """Requests that all replicas together take at most: what a worker hands over; the rest waits in fair order."""
        scaling = _autoscaling(self.deployment)
        replicas = scaling.max_replicas if scaling is not None else self.deployment.get("num_replicas") or 1
        return int(replicas) * self.places.tracks

    @property
    def places(self) -> Places:
        """What one replica takes, and how much of that beyond the guided requests that it plays at once."""
        per_replica = int(self.deployment.get("max_ongoing_requests", DEFAULT_MAX_ONGOING_REQUESTS))
        return Places(per_replica, max(0, per_replica - max(1, self.engine_config().max_rows // 2)))

    def engine_config(self) -> EngineConfig:
        """The engine's own settings.

        Raises:
            ValueError: naming the engine option that is unknown or out of range.
        """
        _refuse_unknown("engine", self.engine, (field.name for field in fields(EngineConfig)))
        try:
            return EngineConfig(**self.engine)
        except (TypeError, TuttiError) as error:
            raise ValueError(f"engine options: {error}") from error


class AppArgs(BaseModel):
    """The arguments of the application, as ``build`` gets them from Serve.

    Attributes:
        models: model id → its settings; at least one of them enabled.
    """

    model_config = _STRICT

    models: dict[str, ModelArgs]

    @model_validator(mode="after")
    def _check(self) -> AppArgs:
        if not self.enabled:
            raise ValueError("no model is switched on: set enabled: true for at least one")
        return self

    @property
    def enabled(self) -> dict[str, ModelArgs]:
        return {model_id: model for model_id, model in self.models.items() if model.enabled}


def _check_deployment(options: Mapping[str, Any]) -> None:
    """Serve ignores options it does not know; here they are refused, so that no typo goes unnoticed."""
    _refuse_unknown("deployment", options, set(DeploymentSchema.model_fields) - {"name"})
    _refuse_unknown("autoscaling_config", options.get("autoscaling_config") or {}, AutoscalingConfig.model_fields)
    _refuse_unknown("ray_actor_options", options.get("ray_actor_options") or {}, RayActorOptionsSchema.model_fields)
    DeploymentSchema.model_validate({"name": "checked", **options})
    _autoscaling(options)


def _autoscaling(options: Mapping[str, Any]) -> AutoscalingConfig | None:
    """What Serve makes of ``autoscaling_config``; None: the number of replicas is fixed.

    With ``num_replicas: auto`` what is left out is that of ``AutoscalingConfig.default()`` (1 to 100 replicas), without
    it that of the class (1 to 1): so does ray 2.60 (serve/_private/config.py, handle_num_replicas_auto).

    Raises:
        ValidationError: a value is out of range, or the replicas' limits contradict each other.
    """
    given = options.get("autoscaling_config")
    if options.get("num_replicas") == "auto":
        return AutoscalingConfig(**{**AutoscalingConfig.default().model_dump(exclude_unset=True), **(given or {})})
    return AutoscalingConfig.model_validate(given) if given is not None else None


def _refuse_unknown(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    known_names = set(known)
    unknown = sorted(set(given) - known_names)
    if unknown:
        raise ValueError(f"{where} has no option {unknown[0]!r}; it has: {', '.join(sorted(known_names))}")
