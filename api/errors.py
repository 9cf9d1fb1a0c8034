"""Every error a client can see: one enum of codes, one envelope, one table from the music's errors to codes.

The engine never says HTTP; this module is the only place where an error meets a status.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from fastapi import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from models.errors import (
    CheckpointError,
    EngineDeadError,
    EngineOverloadedError,
    GenerationFailedError,
    InvalidRequestError,
    ModelNotFoundError,
    ReplicaLostError,
    TuttiError,
)

ERROR_PAGE = "/errors"
PROBLEM_JSON = "application/problem+json"
RETRY_SOON_S = 2.0


class ErrorCode(StrEnum):
    """The codes clients may rely on. Each member carries its status, kind and what it means.

    Attributes:
        status: HTTP status.
        kind: the envelope's ``type``: whose turn it is to act.
        retryable: the same request may succeed later.
        meaning: what happened and what to do, for people.
    """

    status: int
    kind: str
    retryable: bool
    meaning: str

    def __new__(cls, code: str, status: int, kind: str, retryable: bool, meaning: str) -> ErrorCode:
        member = str.__new__(cls, code)
        member._value_ = code
        member.status, member.kind, member.retryable, member.meaning = status, kind, retryable, meaning
        return member

    INVALID_PARAMETER = (
        "invalid_parameter", 422, "invalid_request", False,
        "A parameter is missing, unknown, of the wrong type or out of range. `param` names it: mend it and send again.",
    )  # fmt: skip
    MALFORMED_BODY = (
        "malformed_body", 422, "invalid_request", False,
        "The body is no JSON object. Send one, in UTF-8, with Content-Type: application/json.",
    )  # fmt: skip
    NOT_ACCEPTABLE = (
        "not_acceptable", 406, "invalid_request", False,
        "No audio format made here is among those in the Accept header. Ask for one of them, or name it in `format`.",
    )  # fmt: skip
    PAYLOAD_TOO_LARGE = (
        "payload_too_large", 413, "invalid_request", False,
        "The request's body is larger than this server reads. Send a smaller one.",
    )  # fmt: skip
    MODEL_NOT_FOUND = (
        "model_not_found", 404, "not_found", False,
        "No model of that id is served here. GET /api/v1/models lists those that are.",
    )  # fmt: skip
    NOT_FOUND = (
        "not_found", 404, "not_found", False,
        "Nothing lives at this address. GET /openapi.json lists what does.",
    )  # fmt: skip
    METHOD_NOT_ALLOWED = (
        "method_not_allowed", 405, "invalid_request", False,
        "This address does not take this method. The Allow header says which it takes.",
    )  # fmt: skip
    REQUEST_REFUSED = (
        "request_refused", 400, "invalid_request", False,
        "The request can not be served as it is.",
    )  # fmt: skip
    SYSTEM_OVERLOADED = (
        "system_overloaded", 503, "overloaded", True,
        "Every place is taken and the queue is full. Wait for as many seconds as Retry-After says.",
    )  # fmt: skip
    NOT_READY = (
        "not_ready", 503, "unavailable", True,
        "Something this server depends on is not ready. `details.dependencies` names it.",
    )  # fmt: skip
    MODEL_UNAVAILABLE = (
        "model_unavailable", 503, "unavailable", True,
        "The model's engine has stopped and is being replaced. Send the request again in a moment.",
    )  # fmt: skip
    REPLICA_LOST = (
        "replica_lost", 503, "unavailable", True,
        "The replica that made this audio went away. Send the request again; with the same seed the music is the same.",
    )  # fmt: skip
    GENERATION_FAILED = (
        "generation_failed", 500, "server_error", True,
        "This generation failed; others were not touched. Send it again; if it fails again, report the request id.",
    )  # fmt: skip
    INTERNAL_ERROR = (
        "internal_error", 500, "server_error", False,
        "This is a bug in the server. Report it with the request id.",
    )  # fmt: skip


class ApiError(HTTPException):
    """An error that is ready to be sent.

    A subclass of FastAPI's own, because FastAPI lets only that one pass while it reads a body.

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


# From the music's errors to a code. Subclasses are found through their bases; what is not here is a bug.
_TABLE: dict[type[TuttiError], ErrorCode] = {
    InvalidRequestError: ErrorCode.INVALID_PARAMETER,
    ModelNotFoundError: ErrorCode.MODEL_NOT_FOUND,
    EngineOverloadedError: ErrorCode.SYSTEM_OVERLOADED,
    EngineDeadError: ErrorCode.MODEL_UNAVAILABLE,
    CheckpointError: ErrorCode.MODEL_UNAVAILABLE,
    ReplicaLostError: ErrorCode.REPLICA_LOST,
    GenerationFailedError: ErrorCode.GENERATION_FAILED,
}


def from_tutti(error: TuttiError) -> ApiError:
    """The music's error as the API says it. The engine's own words are kept only where they are meant for callers."""
    code = next((_TABLE[cls] for cls in type(error).__mro__ if cls in _TABLE), ErrorCode.INTERNAL_ERROR)
    if isinstance(error, InvalidRequestError):
        return ApiError(code, error.message, param=error.param)
    if isinstance(error, ModelNotFoundError):
        return ApiError(code, str(error), param="model")
    if isinstance(error, EngineOverloadedError):
        return ApiError(code, retry_after_s=error.retry_after_s)
    return ApiError(code, retry_after_s=RETRY_SOON_S if code.status == 503 else None)


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


def error_response(request: Request, error: ApiError) -> Response:
    """The envelope with its headers; JSON is pure ASCII, since field names in it may hold anything a client sent."""
    request_id: str = request.state.request_id
    wants_problem = PROBLEM_JSON in request.headers.get("accept", "").lower()
    body = problem(error, request_id) if wants_problem else envelope(error, request_id)
    return Response(
        json.dumps(body, allow_nan=False),
        status_code=error.status_code,
        media_type=PROBLEM_JSON if wants_problem else "application/json",
        headers={**(error.headers or {}), "X-Error-Code": error.code.value, "Cache-Control": "no-store"},
    )
