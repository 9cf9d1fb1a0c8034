"""``POST /api/v1/generate/stream``: one call, audio bytes back while they are made."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Request
from starlette.responses import Response

from api.auth.policy import require
from api.auth.principal import Principal, Scope
from api.errors import ErrorCode
from api.formats.audio import LiveFormat, live_encoder
from api.limits.door import decided
from api.limits.idempotency import HEADER, REPLAYED, request_hash, validate_key
from api.negotiation import MEDIA_TYPES, choose_format
from api.routes.generations import checked_url
from api.schemas.errors import error_responses
from api.schemas.generate import GenerateBody
from api.services import Provided
from api.streaming import AudioResponse
from api.streams.access import Access
from api.telemetry.requests import note_accepted, note_model, stream_record
from models.catalog import ModelSpec

router = APIRouter(prefix="/api/v1", tags=["generations"])

Writer = Annotated[Principal, Depends(require(Scope.GENERATIONS_WRITE))]

_ROUTE = "/api/v1/generate/stream"
MAX_PREBUFFER_S = 30.0
_HEADERS = {
    "X-Generation-ID": ("string", "Names this generation"),
    "X-Model": ("string", "The model that plays"),
    "X-Seed": ("integer", "Send it back with the same parameters to hear the same music"),
    "X-Sample-Rate": ("integer", "Hz"),
    "X-Channels": ("integer", "1 mono, 2 stereo (interleaved)"),
    "X-Audio-Duration": ("number", "Seconds of audio that will come"),
    "X-Melody-Separation": ("string", "With a melody: what was taken out of it before, none or htdemucs"),
    "X-Request-ID": ("string", "Names this request in the server's log"),
    "Idempotent-Replayed": ("string", "true: this is the audio of an earlier call with the same Idempotency-Key"),
    "Content-Length": ("integer", "wav and pcm only, exact from the first byte: fewer bytes mean a cut connection"),
}
AUDIO_CONTENT: dict[str, Any] = {
    types[0]: {"schema": {"type": "string", "format": "binary"}} for types in MEDIA_TYPES.values()
}
_AUDIO: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The audio, as it is made. An error after the first byte cuts the connection: a chunked body "
        "then lacks its end, a sized one is shorter than its Content-Length.",
        "content": AUDIO_CONTENT,
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
        ErrorCode.UNAUTHENTICATED,
        ErrorCode.PERMISSION_DENIED,
        ErrorCode.MODEL_NOT_FOUND,
        ErrorCode.WEBHOOK_URL_REFUSED,
        ErrorCode.CONDITIONING_UNSUPPORTED,
        ErrorCode.AUDIO_NOT_FOUND,
        ErrorCode.AUDIO_NOT_READY,
        ErrorCode.NOT_ACCEPTABLE,
        ErrorCode.PAYLOAD_TOO_LARGE,
        ErrorCode.QUOTA_EXCEEDED,
        ErrorCode.CONCURRENCY_LIMIT_EXCEEDED,
        ErrorCode.RATE_LIMITED,
        ErrorCode.IDEMPOTENCY_KEY_REUSED,
        ErrorCode.IDEMPOTENCY_IN_FLIGHT,
        ErrorCode.GENERATION_CANCELLED,
        ErrorCode.GENERATION_EXPIRED,
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
    principal: Writer,
    body: Annotated[GenerateBody, Body()],
    accept: Annotated[str | None, Header(description="The audio format, if the body names none")] = None,
    idempotency_key: Annotated[str | None, Header(alias=HEADER)] = None,
    prebuffer: Annotated[
        float | None,
        Header(
            alias="X-Audio-Prebuffer",
            ge=0,
            le=MAX_PREBUFFER_S,
            description="Seconds of audio that the client gathers before it plays, by which the service level of its "
            "stream is judged; left out: 0.5",
        ),
    ] = None,
) -> Response:
    """The first bytes come when the first piece of audio is final, long before the last one is made.

    A client that disconnects stops the generation. One that sends an `Idempotency-Key` has said that it may come back:
    its generation goes on, and the same call with the same key streams the same audio again from its first byte.
    `GET /api/v1/generate/{id}` and its audio are there for a stream as for any other generation.
    """
    audio_format = body.format or choose_format(accept)
    model_id, spec = services.model(body.model)
    note_model(request, model_id)
    _check_carries(audio_format, spec)
    key = validate_key(idempotency_key)
    created = await services.generations.create(
        principal,
        body.wish(audio_format, await checked_url(services, body.webhook_url)),
        mode="stream",
        idempotency_key=key,
        request_hash=request_hash("POST", _ROUTE, {**body.asked(), "format": audio_format}),
        request_id=request.state.request_id,
    )
    decided(request, services.limits.undecided)
    note_accepted(request, services.telemetry, created)
    return AudioResponse(
        services.feed,
        created.view,
        0,
        audio_format,
        request_id=request.state.request_id,
        telemetry=services.telemetry,
        log=services.log,
        patience_s=services.settings.slow_listener_timeout_s,
        access=services.access.hold(Access.of(principal, request.state.session_id)),
        headers=REPLAYED if created.replayed else None,
        record=stream_record(request, services.telemetry, created, prebuffer),
        on_leave=partial(services.generations.cancel, principal, created.view.id) if key is None else None,
    )


def _check_carries(audio_format: LiveFormat, spec: ModelSpec) -> None:
    """Refuse before anything is made.

    Raises:
        InvalidRequestError: the format can not carry the model's sample rate.
    """
    live_encoder(audio_format, spec.sample_rate, spec.channels, spec.sample_rate)
