"""Models as clients see them. Paths and other facts of the machine stay inside."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, Field

from api.formats.audio import FORMATS
from api.generations.steps import SHORTEST_STRIDE_S, WINDOW_S, is_windowed
from api.limits.tiers import Tier
from api.readiness import ModelState
from api.schemas.generate import GenerateBody
from models.catalog import ModelSpec
from models.types import DEFAULT_EXTEND_STRIDE_S

_SAMPLING_NAMES = ("guidance", "temperature", "top_k", "top_p", "greedy")
_SCHEMA_KEYS = ("type", "default", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "description")


class ModelHealth(BaseModel):
    ready: bool = Field(description="A request would be served now")
    reason: str | None = Field(default=None, description="Why not, if not")
    replicas: int = Field(description="Copies that are loaded and serve now")


class ModelTakes(BaseModel):
    """Audio that a generation of the model may refer to; what it does not take is refused."""

    continuation: bool = Field(description="Music to go on from")
    melody: bool = Field(description="Music whose tune is followed")
    style: bool = Field(description="Music to sound like")


class ExtendStride(BaseModel):
    """`extend_stride`: seconds from one window to the next."""

    minimum: float
    below: float = Field(description="It must be less than this, which is how long a window is")
    default: float
    longer_than: float = Field(description="It is taken for tracks that are longer than this only")


class ModelTier(BaseModel):
    """What a tier may ask of the model."""

    name: str
    max_duration: float = Field(description="Longest track, in seconds")
    max_tracks: int = Field(description="Most tracks of one generation")


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
    takes: ModelTakes
    melody_separation: Literal["none", "htdemucs"] | None = Field(
        default=None,
        description="What is taken out of a melody first, unless a request says `none`; null: it takes no melody",
    )
    extend_stride: ExtendStride | None = Field(description="null: its tracks are never made window by window")
    formats: list[str] = Field(description="What `format` may be")
    parameters: dict[str, Any] = Field(description="Sampling parameters with their ranges and defaults")
    tiers: list[ModelTier] = Field(description="What each tier may ask of it")
    health: ModelHealth


class ModelList(BaseModel):
    data: list[Model]


def describe(model_id: str, spec: ModelSpec, tiers: Iterable[Tier], state: ModelState, *, default: bool) -> Model:
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
        takes=ModelTakes(continuation=spec.goes_on_from_audio, melody=spec.takes_melody, style=spec.style is not None),
        melody_separation=_separation(spec),
        extend_stride=_extend_stride(spec),
        formats=list(FORMATS),
        parameters=_sampling_parameters(),
        tiers=[
            ModelTier(
                name=tier.name,
                max_duration=min(tier.max_duration_s, spec.max_duration_s),
                max_tracks=tier.max_tracks,
            )
            for tier in tiers
        ],
        health=ModelHealth(
            ready=state.ready is True,
            reason=state.ready if isinstance(state.ready, str) else None,
            replicas=state.replicas,
        ),
    )


def _separation(spec: ModelSpec) -> Any:
    return spec.separation if spec.takes_melody else None


def _extend_stride(spec: ModelSpec) -> ExtendStride | None:
    if not is_windowed(spec.max_duration_s, spec):
        return None
    return ExtendStride(
        minimum=SHORTEST_STRIDE_S, below=WINDOW_S, default=DEFAULT_EXTEND_STRIDE_S, longer_than=WINDOW_S
    )


def _sampling_parameters() -> dict[str, Any]:
    properties = GenerateBody.model_json_schema()["properties"]
    return {name: {k: v for k, v in properties[name].items() if k in _SCHEMA_KEYS} for name in _SAMPLING_NAMES}
