"""How a listener learns that there is nothing more to listen to."""

from __future__ import annotations

from api.errors import RETRY_SOON_S, ApiError, ErrorCode
from api.generations.view import GenerationView, State

_CODES = {code.value: code for code in ErrorCode}


class TrackEndedError(ApiError):
    """The generation has ended without this track: it failed, was cancelled, or expired before it was begun."""

    def __init__(self, view: GenerationView, position: int) -> None:
        code, message = _why(view)
        retry_after_s = RETRY_SOON_S if code.status == 503 else None
        details = {"generation_id": view.id, "track": position, "state": view.state.value}
        super().__init__(code, message, details=details, retry_after_s=retry_after_s)


class GenerationGoneError(ApiError):
    """The generation was removed while it was listened to."""

    def __init__(self, generation_id: str) -> None:
        super().__init__(ErrorCode.GENERATION_NOT_FOUND, details={"generation_id": generation_id})


def _why(view: GenerationView) -> tuple[ErrorCode, str | None]:
    if view.state == State.CANCELLED:
        return ErrorCode.GENERATION_CANCELLED, None
    if view.state == State.EXPIRED:
        return ErrorCode.GENERATION_EXPIRED, None
    error = view.error or {}
    code = _CODES.get(error.get("code", ""))
    return (code, error.get("message")) if code is not None else (ErrorCode.GENERATION_FAILED, None)
