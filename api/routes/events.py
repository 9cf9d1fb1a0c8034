"""``/api/v1/generate/{id}/events`` and ``/audio``: listening to a generation, and coming back to it."""

from __future__ import annotations

import json
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from starlette.responses import Response

from api.auth.policy import Policy, refuse_unless, require
from api.auth.principal import Principal, Scope
from api.errors import RETRY_SOON_S, ApiError, ErrorCode
from api.formats.audio import LIVE_FORMATS, AudioFormat, LiveFormat
from api.formats.rendition import Rendition
from api.formats.responder import respond
from api.generations.view import GenerationView, State, TrackView
from api.routes.generate import AUDIO_CONTENT
from api.schemas.errors import error_responses
from api.schemas.generations import GENERATION_ID, render
from api.services import Provided
from api.streaming import AudioResponse
from api.streams.access import Access
from api.streams.errors import TrackEndedError
from api.streams.events import Render, ResumePoint
from api.streams.sse import MEDIA_TYPE, EventStream

router = APIRouter(prefix="/api/v1", tags=["streams"])

_AUDIO_TOO = Policy(public=False, scopes=frozenset({Scope.AUDIO_READ}))
_MAX_ID_CHARACTERS = 700  # 64 tracks

Watcher = Annotated[Principal, Depends(require(Scope.GENERATIONS_READ))]
Listener = Annotated[Principal, Depends(require(Scope.AUDIO_READ))]
GenerationId = Annotated[str, Path(pattern=GENERATION_ID, description="As the create call answered")]
_ALWAYS = (
    ErrorCode.GENERATION_NOT_FOUND,
    ErrorCode.INVALID_PARAMETER,
    ErrorCode.UNAUTHENTICATED,
    ErrorCode.PERMISSION_DENIED,
    ErrorCode.RATE_LIMITED,
    ErrorCode.INTERNAL_ERROR,
)
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events: `snapshot` first; `state` at every change; `audio` for every piece, if asked for; "
        "`done` last, with the final snapshot; `error` with the error envelope if the stream cannot go on.",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
    },
    204: {"description": "Last-Event-ID is that of `done`: there is nothing more to tell, do not come back"},
}
_TRACK: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The audio: of a finished track whole, with ETag; of one in the making as it is made, in a "
        "format of 16-bit samples. The bytes are the same.",
        "content": AUDIO_CONTENT,
    },
    206: {"description": "The part of a finished track that Range asked for", "content": AUDIO_CONTENT},
    304: {"description": "If-None-Match has it already"},
}


@router.get(
    "/generate/{generation_id}/events",
    summary="Listen to a generation's events",
    response_class=Response,
    responses=_EVENTS | error_responses(*_ALWAYS),
)
async def events(
    request: Request,
    generation_id: GenerationId,
    services: Provided,
    principal: Watcher,
    audio: Annotated[bool, Query(description="Also the audio, as `audio` events: base64 of 16-bit samples")] = False,
    last_event_id: Annotated[
        str | None,
        Query(max_length=_MAX_ID_CHARACTERS, description="For clients that can not send the header, which wins"),
    ] = None,
    last_event_id_header: Annotated[
        str | None,
        Header(alias="Last-Event-ID", max_length=_MAX_ID_CHARACTERS, description="Go on after this event"),
    ] = None,
) -> Response:
    """Server-sent events, beginning with a full snapshot.

    Every event after it has an id. Come back with the last one in `Last-Event-ID`, to any server, whatever happened in
    between: what follows is told, nothing is lost and nothing told twice. The connection is quiet for at most 15
    seconds. `done` is the end; a connection that ends without it was cut. A credential that is revoked or expires
    meanwhile ends the stream, within 30 seconds unless the server is set otherwise, with an `error` event that says so.
    """
    if audio:
        refuse_unless(principal, _AUDIO_TOO)
    view = await services.generations.get(principal, generation_id)
    resume = ResumePoint.parse(last_event_id_header or last_event_id, view.num_tracks)
    if resume.is_final(view, audio=audio):
        return Response(status_code=204)
    services.access.check_room(principal.account_id, services.limits.tier(principal.tier).listeners)
    return EventStream(
        services.feed,
        view,
        resume,
        renderer(services.settings.public_url),
        audio=audio,
        request_id=request.state.request_id,
        telemetry=services.telemetry,
        log=services.log,
        patience_s=services.settings.slow_listener_timeout_s,
        access=services.access.hold(Access.of(principal, request.state.session_id)),
    )


@router.head("/generate/{generation_id}/audio", include_in_schema=False)
@router.get(
    "/generate/{generation_id}/audio",
    summary="Listen to a track",
    response_class=Response,
    responses=_TRACK
    | error_responses(
        *_ALWAYS,
        ErrorCode.AUDIO_NOT_FOUND,
        ErrorCode.AUDIO_NOT_READY,
        ErrorCode.RANGE_NOT_SATISFIABLE,
        ErrorCode.GENERATION_CANCELLED,
        ErrorCode.GENERATION_EXPIRED,
        ErrorCode.GENERATION_FAILED,
        ErrorCode.REPLICA_LOST,
        ErrorCode.MODEL_UNAVAILABLE,
        ErrorCode.STORAGE_UNAVAILABLE,
        ErrorCode.SYSTEM_OVERLOADED,
    ),
)
async def track_audio(
    request: Request,
    generation_id: GenerationId,
    services: Provided,
    principal: Listener,
    track: Annotated[int, Query(ge=0, le=1000, description="0, 1, 2 …")] = 0,
    audio_format: Annotated[
        AudioFormat | None, Query(alias="format", description="Left out: as the generation was asked for")
    ] = None,
    sample_rate: Annotated[int | None, Query(description="Hz: 44100, 48000 or 96000; left out: the model's")] = None,
    loudness: Annotated[float | None, Query(description="LUFS, -40 to -5; left out: as it was made")] = None,
) -> Response:
    """While the track is being made: from its first sample on, and as fast as it is made. Afterwards: the same bytes,
    at once, and by Range.

    24-bit and float formats, other sample rates and another loudness are made of finished tracks only.
    """
    view = await services.generations.get(principal, generation_id)
    row = _track(view, track)
    rendition = Rendition(audio_format or cast(AudioFormat, view.format), sample_rate, loudness)
    if view.state == State.SUCCEEDED:
        return await respond(services.audio.renditions, request, row, rendition)
    if view.is_terminal:
        raise TrackEndedError(view, track)
    live = live_format(rendition)
    if live is None:
        raise ApiError(
            ErrorCode.AUDIO_NOT_READY,
            "this form is made of the finished track: come back when it is, or ask for a format of 16-bit samples",
            retry_after_s=view.eta_s or RETRY_SOON_S,
        )
    if request.method == "HEAD":
        spec = services.models[view.model_id]
        headers = {"Content-Type": rendition.media_type(spec.sample_rate, spec.channels), "Accept-Ranges": "none"}
        return Response(headers=headers)
    services.access.check_room(principal.account_id, services.limits.tier(principal.tier).listeners)
    return AudioResponse(
        services.feed,
        view,
        track,
        live,
        request_id=request.state.request_id,
        telemetry=services.telemetry,
        log=services.log,
        patience_s=services.settings.slow_listener_timeout_s,
        access=services.access.hold(Access.of(principal, request.state.session_id)),
    )


def renderer(base_url: str | None) -> Render:
    """A generation as ``GET /generate/{id}`` gives it, on one line."""
    return lambda view: json.dumps(render(view, base_url), separators=(",", ":"))


def live_format(rendition: Rendition) -> LiveFormat | None:
    """The format if it can be had of a track in the making."""
    if rendition.sample_rate is not None or rendition.loudness_lufs is not None:
        return None
    return next((name for name in LIVE_FORMATS if name == rendition.format), None)


def _track(view: GenerationView, position: int) -> TrackView:
    if position >= view.num_tracks:
        message = f"track must be 0 to {view.num_tracks - 1}: this generation has {view.num_tracks}"
        raise ApiError(ErrorCode.INVALID_PARAMETER, message, param="track")
    found = next((row for row in view.tracks if row.position == position), None)
    if found is None:
        raise ApiError(ErrorCode.AUDIO_NOT_FOUND, "this track was deleted")
    return found
