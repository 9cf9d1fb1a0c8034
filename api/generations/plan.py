"""From a client's wish to the rows of a generation: what the model and the tier allow, and the chosen rest."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from api.auth.principal import Principal
from api.generations import conditioning
from api.generations.sounds import MELODY
from api.generations.steps import SHORTEST_STRIDE_S, WINDOW_S, frames_of, is_windowed, steps_of
from api.generations.style import STYLE
from api.generations.view import CreateGeneration, Mode
from api.ids import new_id
from api.limits.tiers import Tier
from api.schemas.generate import DEFAULT_DURATION_S
from api.seeds import track_seed
from api.tracing import entry_traceparent
from models.catalog import ModelSpec
from models.errors import InvalidRequestError, ModelNotFoundError
from models.types import NO_SEPARATION

# A chosen seed is short enough for a browser's number type and for a person to type again.
_MINTED_SEEDS = 2**32


@dataclass(frozen=True, slots=True)
class Plan:
    """A wish that can be fulfilled.

    Attributes:
        known_frames: of each track, from audio that it goes on from.
    """

    wish: CreateGeneration
    spec: ModelSpec
    tier: Tier
    duration_s: float
    seed: int
    known_frames: int = 0

    @property
    def cost_steps(self) -> int:
        """Decoder steps of all tracks."""
        wish = self.wish
        one = steps_of(
            self.duration_s,
            self.spec,
            wish.sampling,
            known_frames=self.known_frames,
            extend_stride_s=wish.extend_stride_s,
        )
        return wish.num_tracks * one

    def with_audio(self, accepted: conditioning.Accepted) -> Plan:
        """With what was found behind the ids in its wish."""
        kept = dict(accepted.kept)
        if MELODY in kept:
            kept["source_separation"] = self.wish.melody_separation or self.spec.separation
        return replace(self, wish=replace(self.wish, conditioning=kept), known_frames=accepted.known_frames)

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
    heard = wish.conditioning or {}
    conditioning.check(heard, spec)
    if wish.sampling.guidance_beta is not None and not heard.keys() & {MELODY, STYLE}:
        raise InvalidRequestError(
            "guidance_beta weighs the prompt against a melody or style, and there is none: leave it out",
            "guidance_beta",
        )
    _check_separation(wish, spec)
    if wish.num_tracks > tier.max_tracks:
        raise InvalidRequestError(f"num_tracks must be at most {tier.max_tracks} in the {tier.name} tier", "num_tracks")
    duration_s = _duration_s(wish.duration_s, spec, tier)
    _check_stride(wish.extend_stride_s, duration_s, spec)
    seed = secrets.randbelow(_MINTED_SEEDS) if wish.seed is None else wish.seed
    return Plan(wish, spec, tier, duration_s, seed)


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
        "sampling": {name: value for name, value in asdict(wish.sampling).items() if value is not None},
        "format": wish.format,
        "extend_stride_s": wish.extend_stride_s,
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


def _check_separation(wish: CreateGeneration, spec: ModelSpec) -> None:
    param = "melody_separation"
    if wish.melody_separation is None:
        return
    if not wish.conditioning or MELODY not in wish.conditioning:
        raise InvalidRequestError("melody_separation says how a melody is heard, and there is none", param)
    if wish.melody_separation not in (NO_SEPARATION, spec.separation):
        raise InvalidRequestError(
            f"{spec.id} hears melodies as they are: {wish.melody_separation} is not set up for it on this server, so "
            "leave melody_separation out",
            param,
        )


def _check_stride(asked: float | None, duration_s: float, spec: ModelSpec) -> None:
    if asked is None:
        return
    if not SHORTEST_STRIDE_S <= asked < WINDOW_S:
        raise InvalidRequestError(
            f"extend_stride must be at least {SHORTEST_STRIDE_S:g} s and below {WINDOW_S:g} s", "extend_stride"
        )
    if not is_windowed(duration_s, spec):
        raise InvalidRequestError(
            f"extend_stride is for tracks longer than {WINDOW_S:g} s, and this one has {duration_s:g} s: leave it out",
            "extend_stride",
        )


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
    if frames_of(asked, spec) < 1:
        raise InvalidRequestError(f"duration must be at least {1 / spec.frame_rate:g} s (one frame)", "duration")
    return asked
