"""``POST /api/v1/generate/stream``: one call, audio bytes back while they are made."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Request
from starlette.responses import Response

from api.auth.policy import public
from api.errors import ErrorCode
from api.ids import new_id
from api.negotiation import MEDIA_TYPES, choose_format
from api.schemas.errors import error_responses
from api.schemas.generate import DEFAULT_DURATION_S, GenerateBody
from api.services import Provided
from api.streaming import AudioResponse
from models.catalog import ModelSpec
from models.errors import InvalidRequestError
from models.types import GenerationRequest

router = APIRouter(prefix="/api/v1", tags=["generations"], dependencies=[Depends(public)])

# A chosen seed is short enough for a browser's number type and for a person to type again.
_MINTED_SEEDS = 2**32

_HEADERS = {
    "X-Generation-ID": ("string", "Names this generation"),
    "X-Model": ("string", "The model that plays"),
    "X-Seed": ("integer", "Send it back with the same parameters to hear the same music"),
    "X-Sample-Rate": ("integer", "Hz"),
    "X-Channels": ("integer", "1 mono, 2 stereo (interleaved)"),
    "X-Audio-Duration": ("number", "Seconds of audio that will come"),
    "X-Request-ID": ("string", "Names this request in the server's log"),
    "Content-Length": ("integer", "wav and pcm only, exact from the first byte: fewer bytes mean a cut connection"),
}
_AUDIO: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The audio, as it is made. An error after the first byte cuts the connection: a chunked body "
        "then lacks its end, a sized one is shorter than its Content-Length.",
        "content": {types[0]: {"schema": {"type": "string", "format": "binary"}} for types in MEDIA_TYPES.values()},
        "headers": {name: {"schema": {"type": kind}, "description": text} for name, (kind, text) in _HEADERS.items()},
    }
}


@router.post(
    "/generate/stream",
    summary="Make music and stream it",
    response_class=Response,
    responses=_AUDIO
    | error_responses(
        ErrorCode.INVALID_PARAMETER,
        ErrorCode.MALFORMED_BODY,
        ErrorCode.MODEL_NOT_FOUND,
        ErrorCode.NOT_ACCEPTABLE,
        ErrorCode.PAYLOAD_TOO_LARGE,
        ErrorCode.SYSTEM_OVERLOADED,
        ErrorCode.MODEL_UNAVAILABLE,
        ErrorCode.REPLICA_LOST,
        ErrorCode.GENERATION_FAILED,
        ErrorCode.INTERNAL_ERROR,
    ),
)
async def stream(
    request: Request,
    services: Provided,
    body: Annotated[GenerateBody, Body()],
    accept: Annotated[str | None, Header(description="The audio format, if the body names none")] = None,
) -> Response:
    """The first bytes come when the first piece of audio is final, long before the last one is made.

    A client that disconnects stops the generation. The prompt is neither stored nor logged.
    """
    audio_format = body.format or choose_format(accept)
    model_id, spec = services.model(body.model)
    return AudioResponse(
        services.backends[model_id],
        _generation(body, spec),
        model_id,
        audio_format,
        request_id=request.state.request_id,
        metrics=services.metrics,
        log=services.log,
    )


def _generation(body: GenerateBody, spec: ModelSpec) -> GenerationRequest:
    return GenerationRequest(
        request_id=new_id("gen"),
        prompt=body.prompt,
        duration_s=_duration_s(body.duration, spec),
        seed=secrets.randbelow(_MINTED_SEEDS) if body.seed is None else body.seed,
        sampling=body.sampling(),
    )


def _duration_s(asked: float | None, spec: ModelSpec) -> float:
    """Seconds within what the model can make: at least one frame, at most its maximum."""
    if asked is None:
        return min(DEFAULT_DURATION_S, spec.max_duration_s)
    if asked > spec.max_duration_s:
        raise InvalidRequestError(f"duration must be at most {spec.max_duration_s:g} s for this model", "duration")
    if int(asked * spec.frame_rate) < 1:
        raise InvalidRequestError(f"duration must be at least {1 / spec.frame_rate:g} s (one frame)", "duration")
    return asked
