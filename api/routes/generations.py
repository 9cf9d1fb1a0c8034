"""``/api/v1/generate``: make music that is there afterwards; look at it, wait for it, cancel it."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Path, Request, Response

from api.auth.policy import require
from api.auth.principal import Principal, Scope
from api.errors import ApiError, ErrorCode
from api.generations.service import MAX_WAIT_S
from api.generations.view import GenerationView, State
from api.limits.door import decided
from api.limits.idempotency import HEADER, REPLAYED, request_hash, validate_key
from api.schemas.errors import error_responses
from api.schemas.generation_body import GenerationBody
from api.schemas.generations import GENERATION_ID, Generation, path_of, present
from api.services import Provided, Services
from api.telemetry.requests import note_accepted, note_model

router = APIRouter(prefix="/api/v1", tags=["generations"])

Reader = Annotated[Principal, Depends(require(Scope.GENERATIONS_READ))]
Writer = Annotated[Principal, Depends(require(Scope.GENERATIONS_WRITE))]
GenerationId = Annotated[str, Path(pattern=GENERATION_ID, description="As the create call answered")]
_PREFER = "`wait=n`: answer when it has ended, or after n seconds (at most 60)"
Prefer = Annotated[str | None, Header(description=_PREFER)]

_ROUTE = "/api/v1/generate"
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?\s*(?=$|[,;])", re.IGNORECASE)
_ALWAYS = (ErrorCode.UNAUTHENTICATED, ErrorCode.PERMISSION_DENIED, ErrorCode.RATE_LIMITED, ErrorCode.INTERNAL_ERROR)
_ONE = error_responses(ErrorCode.GENERATION_NOT_FOUND, ErrorCode.INVALID_PARAMETER, *_ALWAYS)
_LOCATION: dict[str, Any] = {"Location": {"schema": {"type": "string"}, "description": "Where the generation is"}}
_CREATED: dict[int | str, dict[str, Any]] = {
    202: {"headers": _LOCATION},
    200: {"model": Generation, "description": "Ended within the time of `Prefer: wait`", "headers": _LOCATION},
}
_CANCELLED: dict[int | str, dict[str, Any]] = {200: {"model": Generation, "description": "It is cancelled"}}


@router.post(
    "/generate",
    status_code=202,
    summary="Make music",
    responses=_CREATED
    | error_responses(
        ErrorCode.INVALID_PARAMETER,
        ErrorCode.MALFORMED_BODY,
        ErrorCode.PAYLOAD_TOO_LARGE,
        ErrorCode.MODEL_NOT_FOUND,
        ErrorCode.WEBHOOK_URL_REFUSED,
        ErrorCode.CONDITIONING_UNSUPPORTED,
        ErrorCode.AUDIO_NOT_FOUND,
        ErrorCode.AUDIO_NOT_READY,
        ErrorCode.QUOTA_EXCEEDED,
        ErrorCode.CONCURRENCY_LIMIT_EXCEEDED,
        ErrorCode.SYSTEM_OVERLOADED,
        ErrorCode.IDEMPOTENCY_KEY_REUSED,
        ErrorCode.IDEMPOTENCY_IN_FLIGHT,
        *_ALWAYS,
    ),
)
async def create(
    request: Request,
    response: Response,
    services: Provided,
    principal: Writer,
    body: Annotated[GenerationBody, Body()],
    idempotency_key: Annotated[str | None, Header(alias=HEADER)] = None,
    prefer: Prefer = None,
) -> Generation:
    """Accepted is kept: from the answer on the generation is made, whatever stops in between.

    The answer names every URL that is needed from here. Listen at `links.events`, or fetch `links.audio`, while it is
    still being made. With an `Idempotency-Key` the same call sent again makes nothing new.
    """
    model_id = body.model or services.default_model
    if model_id in services.models:
        note_model(request, model_id)
    created = await services.generations.create(
        principal,
        body.tracks(await checked_url(services, body.webhook_url)),
        mode="async",
        idempotency_key=validate_key(idempotency_key),
        request_hash=request_hash("POST", _ROUTE, body.asked()),
        request_id=request.state.request_id,
    )
    decided(request, services.limits.undecided)
    note_accepted(request, services.telemetry, created)
    view = await _waited(services, principal, created.view, prefer, response)
    response.status_code = 200 if view.is_terminal and _wait_s(prefer) is not None else 202
    response.headers.update({"Location": path_of(view.id), **(REPLAYED if created.replayed else {})})
    return present(view, services.settings.public_url)


@router.get("/generate/{generation_id}", summary="Look at a generation", responses=_ONE)
async def get(
    generation_id: GenerationId, response: Response, services: Provided, principal: Reader, prefer: Prefer = None
) -> Generation:
    """Its state, its tracks, and while it waits its place in the queue and the seconds until it is done."""
    view = await services.generations.get(principal, generation_id)
    view = await _waited(services, principal, view, prefer, response)
    return present(view, services.settings.public_url)


@router.post(
    "/generate/{generation_id}/cancel",
    status_code=202,
    summary="Cancel a generation",
    responses=_CANCELLED
    | error_responses(
        ErrorCode.GENERATION_NOT_FOUND, ErrorCode.GENERATION_ENDED, ErrorCode.INVALID_PARAMETER, *_ALWAYS
    ),
)
async def cancel(
    generation_id: GenerationId, response: Response, services: Provided, principal: Writer, prefer: Prefer = None
) -> Generation:
    """One that waits is cancelled at once and its quota given back; one that runs stops within two seconds.

    Cancelling twice is as good as once.
    """
    view = await services.generations.cancel(principal, generation_id)
    if view.is_terminal and view.state != State.CANCELLED:
        message = f"this generation has {view.state}, so there is nothing to cancel: GET it to see its result"
        raise ApiError(ErrorCode.GENERATION_ENDED, message, details={"state": view.state.value})
    view = await _waited(services, principal, view, prefer, response)
    response.status_code = 200 if view.is_terminal else 202
    return present(view, services.settings.public_url)


async def checked_url(services: Services, webhook_url: str | None) -> str | None:
    return await services.webhooks.check_url(webhook_url) if webhook_url is not None else None


async def _waited(
    services: Provided, principal: Principal, view: GenerationView, prefer: str | None, response: Response
) -> GenerationView:
    seconds = _wait_s(prefer)
    if seconds is None:
        return view
    response.headers["Preference-Applied"] = f"wait={seconds:g}"
    return view if view.is_terminal else await services.generations.wait(principal, view.id, seconds)


def _wait_s(prefer: str | None) -> float | None:
    """Seconds of ``wait=n`` (RFC 7240), as far as they are granted. What cannot be read is ignored, as it says."""
    found = _WAIT.search(prefer or "")
    return min(float(found[1]), MAX_WAIT_S) if found else None
