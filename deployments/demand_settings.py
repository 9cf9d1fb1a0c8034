"""What ``policy_kwargs`` of the policy "demand" may say; checked when the file is read, before anything is started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from autoscaling.demand import Fleet
from autoscaling.policy import ModelPolicy

POLICY: Final = "deployments.demand_autoscaling:DemandAutoscaling"
_UNMEASURED_RATE: Final = 1.0
"""Audio-seconds per second of a stream before any was measured: what a listener needs at least."""

_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_STRICT = ConfigDict(extra="forbid", frozen=True)


class ModelDemand(BaseModel):
    """One model size. How many replicas it may have says its ``autoscaling_config``.

    Attributes:
        streams: that a replica serves at once; a guided one takes two of the engine's rows.
        stream_rate: audio-seconds per second of each of them when all are there; left out: as the replicas measure it.
        cold_start_s: seconds from asking for a replica until it serves, until one was seen to start.
        gpu_share: of a GPU that a replica takes, for packing.
        warm_floor: replicas that are kept whatever happens, though never more than the file's ``max_replicas``.
        break_even_s: seconds for which a replica that is not needed is kept; left out: twice its cold start, at
            least 60 and up to 300 where work comes in bursts.
        beta: headroom in standard deviations of the rows in use.
        stale_after_s: reports older than this change nothing.
    """

    model_config = _STRICT

    streams: Annotated[int, Field(ge=1)]
    stream_rate: _Above | None = None
    cold_start_s: _Seconds = 30.0
    gpu_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    warm_floor: Annotated[int, Field(ge=0)] = 0
    break_even_s: _Seconds | None = None
    beta: _Seconds = 1.5
    stale_after_s: _Above = 10.0

    def policy(self, least: int, most: int, capacity: float, cold_start_s: float) -> ModelPolicy:
        """
        Args:
            least, most: replicas, from the size's ``autoscaling_config``.
            capacity: audio-seconds per second of a replica with all its streams, as measured; 0: not yet.
        """
        measured = capacity / self.streams if capacity > 0 else _UNMEASURED_RATE
        return ModelPolicy(
            rows=self.streams,
            stream_rate=self.stream_rate or measured,
            cold_start_s=cold_start_s,
            min_replicas=least,
            max_replicas=most,
            warm_floor=min(self.warm_floor, most),
            beta=self.beta,
            break_even_s=self.break_even_s,
            stale_after_s=self.stale_after_s,
        )


class DemandSettings(BaseModel):
    """All sizes.

    Attributes:
        models: model id → what is known of it; those that are not served are not looked at.
        gpus: that there are; left out: as many as are asked for.
        order: model ids, the most important first, when the GPUs do not suffice.
        decide_every_s: seconds; Serve asks ten times a second, and gets the last answer in between.
    """

    model_config = _STRICT

    models: dict[str, ModelDemand]
    gpus: Annotated[int, Field(ge=1)] | None = None
    order: list[str] = []
    decide_every_s: _Seconds = 1.0

    @property
    def fleet(self) -> Fleet:
        return Fleet(self.gpus, {name: model.gpu_share for name, model in self.models.items()}, self.order)


def check_policy(policy: Mapping[str, Any] | None) -> None:
    """Refuse a typo now: in Serve's controller it would only hold every replica where it is.

    Raises:
        ValidationError: naming the option.
    """
    if policy is not None and policy.get("policy_function") == POLICY:
        DemandSettings.model_validate(policy.get("policy_kwargs") or {})
