"""Models as clients see them. Paths and other facts of the machine stay inside."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from api.formats.audio import FORMATS
from api.schemas.generate import GenerateBody
from models.catalog import ModelSpec

_SAMPLING_NAMES = ("guidance", "temperature", "top_k", "top_p", "greedy")
_SCHEMA_KEYS = ("type", "default", "minimum", "maximum", "exclusiveMinimum", "description")


class ModelHealth(BaseModel):
    ready: bool = Field(description="A request would be served now")
    reason: str | None = Field(default=None, description="Why not, if not")


class Model(BaseModel):
    """One model that is served here."""

    id: str
    description: str
    licence: str
    default: bool = Field(description="Used by requests that name no model")
    max_duration: float = Field(description="Longest track, in seconds")
    sample_rate: int = Field(description="Hz")
    channels: int = Field(description="1 mono, 2 stereo")
    frame_rate: float = Field(description="Token frames per second; durations are rounded down to whole frames")
    num_codebooks: int
    formats: list[str] = Field(description="What `format` may be")
    parameters: dict[str, Any] = Field(description="Sampling parameters with their ranges and defaults")
    health: ModelHealth


class ModelList(BaseModel):
    data: list[Model]


def describe(model_id: str, spec: ModelSpec, *, default: bool, ready: bool | str) -> Model:
    """A model's public description, from what is known of it and what its backend said of itself."""
    return Model(
        id=model_id,
        description=spec.description,
        licence=spec.licence,
        default=default,
        max_duration=spec.max_duration_s,
        sample_rate=spec.sample_rate,
        channels=spec.channels,
        frame_rate=spec.frame_rate,
        num_codebooks=spec.num_codebooks,
        formats=list(FORMATS),
        parameters=_sampling_parameters(),
        health=ModelHealth(ready=ready is True, reason=ready if isinstance(ready, str) else None),
    )


def _sampling_parameters() -> dict[str, Any]:
    properties = GenerateBody.model_json_schema()["properties"]
    return {name: {k: v for k, v in properties[name].items() if k in _SCHEMA_KEYS} for name in _SAMPLING_NAMES}
