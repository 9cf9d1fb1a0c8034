"""From a client's wish to the rows of a generation: what the model and the tier allow, and the chosen rest."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from api.auth.principal import Principal
from api.generations.continuation import CONTINUATION
from api.generations.view import CreateGeneration, Mode, track_seed
from api.ids import new_id
from api.limits.tiers import Tier
from api.schemas.generate import DEFAULT_DURATION_S
from api.tracing import entry_traceparent
from api.uploads.reference import refuse
from models.catalog import ModelSpec
from models.errors import InvalidRequestError, ModelNotFoundError

# A chosen seed is short enough for a browser's number type and for a person to type again.
_MINTED_SEEDS = 2**32


@dataclass(frozen=True, slots=True)
class Plan:
    """A wish that can be fulfilled.

    Attributes:
        cost_steps: decoder steps of all tracks, exact.
    """

    wish: CreateGeneration
    spec: ModelSpec
    tier: Tier
    duration_s: float
    seed: int
    cost_steps: int

    @property
    def audio_s(self) -> float:
        """Of all tracks: what the quota and the fair queue count."""
        return self.duration_s * self.wish.num_tracks


def make_plan(wish: CreateGeneration, tier: Tier, models: Mapping[str, ModelSpec], default_model: str) -> Plan:
    """
    Raises:
        ModelNotFoundError: naming the models there are.
        InvalidRequestError: naming the parameter that the model or the tier does not allow.
        ApiError: conditioning_unsupported: the model can not take the audio that is named.
    """
    model_id = wish.model_id or default_model
    if model_id not in models:
        raise ModelNotFoundError(f"no such model is served here; there are: {', '.join(models)}")
    spec = models[model_id]
    if wish.conditioning:
        _check_conditioning(wish.conditioning, spec)
    if wish.num_tracks > tier.max_tracks:
        raise InvalidRequestError(f"num_tracks must be at most {tier.max_tracks} in the {tier.name} tier", "num_tracks")
    duration_s = _duration_s(wish.duration_s, spec, tier)
    seed = secrets.randbelow(_MINTED_SEEDS) if wish.seed is None else wish.seed
    return Plan(wish, spec, tier, duration_s, seed, wish.num_tracks * steps_of(duration_s, spec))


def steps_of(duration_s: float, spec: ModelSpec) -> int:
    """Decoder steps of one track: its frames, and those by which the last codebook runs behind the first."""
    largest_delay = spec.num_codebooks // spec.channels - 1
    return int(duration_s * spec.frame_rate) + largest_delay


def rows_of(
    plan: Plan,
    principal: Principal,
    mode: Mode,
    request_id: str,
    now: datetime,
    *,
    queue_expiry_s: float,
    quota_windows: list[Any],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The row of the generation and those of its tracks, as ``states.create`` takes them."""
    wish = plan.wish
    # Repeated in the tracks, for the gallery's filters.
    shared = {
        "account_id": principal.account_id,
        "model_id": plan.spec.id,
        "prompt": wish.prompt,
        "campaign_id": wish.campaign_id,
        "client_id": wish.client_id,
        "brief_id": wish.brief_id,
        "collection": wish.collection,
        "metadata": dict(wish.metadata),
        "created_at": now,
    }
    row = {
        **shared,
        "id": new_id("gen"),
        "api_key_id": principal.api_key_id,
        "test_mode": principal.test_mode,
        "request_id": request_id,
        "traceparent": entry_traceparent(),
        "mode": mode,
        "tier": plan.tier.name,
        "duration_s": plan.duration_s,
        "num_tracks": wish.num_tracks,
        "seed": plan.seed,
        "sampling": asdict(wish.sampling),
        "format": wish.format,
        "conditioning": dict(wish.conditioning) if wish.conditioning else None,
        "cost_steps": plan.cost_steps,
        "webhook_url": wish.webhook_url,
        "available_at": now,
        "expires_at": now + timedelta(seconds=queue_expiry_s),
        "deadline_at": now + timedelta(seconds=plan.tier.deadline_s(plan.duration_s)),
        "quota_windows": quota_windows,
    }
    tracks = [
        {
            **shared,
            "id": new_id("trk"),
            "generation_id": row["id"],
            "position": position,
            "seed": track_seed(plan.seed, position),
        }
        for position in range(wish.num_tracks)
    ]
    return row, tracks


def _check_conditioning(conditioning: Mapping[str, Any], spec: ModelSpec) -> None:
    if "melody" in conditioning:
        raise refuse(spec.id, "melody")
    if CONTINUATION in conditioning and not spec.goes_on_from_audio:
        raise refuse(spec.id, "continuation")


def _duration_s(asked: float | None, spec: ModelSpec, tier: Tier) -> float:
    """Seconds within what model and tier allow: at least one frame."""
    if asked is None:
        return min(DEFAULT_DURATION_S, spec.max_duration_s, tier.max_duration_s)
    if asked > spec.max_duration_s:
        raise InvalidRequestError(f"duration must be at most {spec.max_duration_s:g} s for this model", "duration")
    if asked > tier.max_duration_s:
        raise InvalidRequestError(
            f"duration must be at most {tier.max_duration_s:g} s in the {tier.name} tier", "duration"
        )
    if int(asked * spec.frame_rate) < 1:
        raise InvalidRequestError(f"duration must be at least {1 / spec.frame_rate:g} s (one frame)", "duration")
    return asked
