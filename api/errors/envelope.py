"""One error, ready to be sent: the envelope of every response that is no success, and the shapes it may take."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response

from api.deprecations import LEGACY_ERROR_BODY, mark
from api.errors.codes import ErrorCode

ERROR_PAGE = "/errors"
PROBLEM_JSON = "application/problem+json"
LEGACY_JSON = "application/vnd.tutti.legacy+json"
RETRY_SOON_S = 2.0


class ApiError(HTTPException):
    """An error that is ready to be sent.

    A subclass of Starlette's own, because FastAPI lets only that one pass while it reads a body.

    Args:
        code: what happened.
        message: this occurrence, in a sentence that says what to do.
        param: the request's field that is to blame.
        details: more for machines; never a value the client sent.
        retry_after_s: seconds; sent as Retry-After, rounded up.
        headers: further headers.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str | None = None,
        *,
        param: str | None = None,
        details: dict[str, Any] | None = None,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        extra = dict(headers or {})
        if retry_after_s is not None:
            extra["Retry-After"] = str(max(1, math.ceil(retry_after_s)))
        super().__init__(code.status, message or code.meaning, extra)
        self.code = code
        self.message = message or code.meaning
        self.param = param
        self.details = details or {}


def envelope(error: ApiError, request_id: str) -> dict[str, Any]:
    """The body of every response that is no success."""
    return {
        "error": {
            "code": error.code.value,
            "message": error.message,
            "request_id": request_id,
            "type": error.code.kind,
            "param": error.param,
            "doc_url": f"{ERROR_PAGE}#{error.code.value}",
            "retryable": error.code.retryable,
            "details": error.details,
        }
    }


def problem(error: ApiError, request_id: str) -> dict[str, Any]:
    """The same as an RFC 9457 problem document, for clients that ask for one."""
    body = envelope(error, request_id)["error"]
    return {
        "type": body.pop("doc_url"),
        "title": error.code.value.replace("_", " "),
        "status": error.status_code,
        "detail": body.pop("message"),
        "instance": f"urn:tutti:request:{request_id}",
        **{name: body[name] for name in ("code", "request_id", "param", "retryable", "details")},
    }


def error_response(request: HTTPConnection, error: ApiError) -> Response:
    """The error in the shape that was asked for; pure ASCII, since field names in it may hold anything a client sent.

    Also answers the handshake of a WebSocket that is refused.
    """
    request_id: str = request.state.request_id
    body, media_type = _shaped(request, error, request_id)
    return Response(
        json.dumps(body, allow_nan=False),
        status_code=error.status_code,
        media_type=media_type,
        headers={**(error.headers or {}), "X-Error-Code": error.code.value, "Cache-Control": "no-store"},
    )


def _shaped(request: HTTPConnection, error: ApiError, request_id: str) -> tuple[dict[str, Any], str]:
    accept = request.headers.get("accept", "").lower()
    if PROBLEM_JSON in accept:
        return problem(error, request_id), PROBLEM_JSON
    if LEGACY_JSON in accept:
        mark(request, LEGACY_ERROR_BODY)
        return {"detail": error.message}, LEGACY_JSON
    return envelope(error, request_id), "application/json"
