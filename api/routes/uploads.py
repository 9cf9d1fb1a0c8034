"""``/api/v1/audio/uploads``: audio for a generation to follow or to carry on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response

from api.auth.policy import require
from api.auth.principal import Principal, Scope
from api.errors import ApiError, ErrorCode
from api.limits.idempotency import HEADER, REPLAYED, validate_key
from api.schemas.errors import error_responses
from api.schemas.uploads import Upload
from api.services import Provided

PATH = "/api/v1/audio/uploads"
router = APIRouter(prefix=PATH, tags=["uploads"])

Reader = Annotated[Principal, Depends(require(Scope.AUDIO_READ))]
Writer = Annotated[Principal, Depends(require(Scope.AUDIO_WRITE))]
_ONE = error_responses(ErrorCode.AUDIO_NOT_FOUND)
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}},
        "description": "A WAV, FLAC, MP3, Ogg-Opus or Ogg-Vorbis file, mono or stereo",
    }
}


@router.post(
    "",
    status_code=201,
    summary="Upload audio",
    openapi_extra=_BODY,
    responses=error_responses(
        ErrorCode.UNSUPPORTED_MEDIA_TYPE,
        ErrorCode.UNREADABLE_AUDIO,
        ErrorCode.AUDIO_TOO_LONG,
        ErrorCode.PAYLOAD_TOO_LARGE,
        ErrorCode.RATE_LIMITED,
        ErrorCode.CONCURRENCY_LIMIT_EXCEEDED,
        ErrorCode.SYSTEM_OVERLOADED,
        ErrorCode.STORAGE_UNAVAILABLE,
    ),
)
async def upload(
    request: Request,
    response: Response,
    services: Provided,
    principal: Writer,
    idempotency_key: Annotated[str | None, Header(alias=HEADER)] = None,
) -> Upload:
    """The body is the file itself. It is decoded, checked and kept encrypted until it expires; of the file nothing but
    its sound is kept."""
    key = validate_key(idempotency_key)
    _check_type(request)
    await services.limits.rates.hit("upload", principal.account_id)
    async with services.uploads.place(principal.account_id):
        row, replayed = await services.uploads.create(principal.account_id, await request.body(), key)
    response.headers["Location"] = f"{PATH}/{row.id}"
    response.headers.update(REPLAYED if replayed else {})
    return Upload.of(row)


@router.get("/{upload_id}", summary="One upload", responses=_ONE)
async def get_upload(upload_id: str, services: Provided, principal: Reader) -> Upload:
    return Upload.of(await services.uploads.get(principal.account_id, upload_id))


@router.delete("/{upload_id}", status_code=204, summary="Remove an upload", responses=_ONE)
async def remove_upload(upload_id: str, services: Provided, principal: Writer) -> None:
    """Generations that already took it are not touched."""
    await services.uploads.remove(principal.account_id, upload_id)


def _check_type(request: Request) -> None:
    """What the file is, its bytes say; this is for callers who meant to send something else, such as a form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.startswith("audio/") and kind not in {"application/octet-stream", "application/ogg"}:
        message = (
            "send the file itself as the body, with a Content-Type of audio/wav, audio/flac, audio/mpeg or audio/ogg"
        )
        raise ApiError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, message)
