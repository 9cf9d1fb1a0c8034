"""The error envelope for the OpenAPI document, with an example for each code a route may answer with."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from api.errors import PROBLEM_JSON, ApiError, ErrorCode, envelope


class ErrorBody(BaseModel):
    code: ErrorCode = Field(description="Stable; rely on this one")
    message: str = Field(description="This occurrence, for people")
    request_id: str
    type: str = Field(description="The family of the code, such as invalid_request, authentication, quota, overloaded")
    param: str | None = Field(description="The field that is to blame")
    doc_url: str
    retryable: bool = Field(description="The same request may succeed later")
    details: dict[str, Any]


class ErrorEnvelope(BaseModel):
    """The body of every response that is no success (an RFC 9457 document instead, if Accept asks for one)."""

    error: ErrorBody


class Problem(BaseModel):
    """The same as an RFC 9457 problem document, for `Accept: application/problem+json`."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: ErrorCode
    request_id: str
    param: str | None
    retryable: bool
    details: dict[str, Any]


class LegacyError(BaseModel):
    """Deprecated: the older body, for `Accept: application/vnd.tutti.legacy+json`."""

    detail: str


def error_responses(*codes: ErrorCode) -> dict[int | str, dict[str, Any]]:
    """``responses=`` of a route: one entry per status, one example per code."""
    responses: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        entry = responses.setdefault(code.status, {"description": "", "model": ErrorEnvelope})
        entry["description"] = " ".join(filter(None, [entry["description"], f"`{code.value}`: {code.meaning}"]))
        content = entry.setdefault("content", {"application/json": {"examples": {}}, PROBLEM_JSON: {}})
        example = envelope(ApiError(code), "req_0123456789abcdef01234567")
        content["application/json"]["examples"][code.value] = {"value": example}
        entry["headers"] = _headers(code)
    return responses


def _headers(code: ErrorCode) -> dict[str, Any]:
    headers: dict[str, Any] = {
        "X-Error-Code": {"schema": {"type": "string"}, "description": "The envelope's code"},
        "X-Request-ID": {"schema": {"type": "string"}, "description": "Names this request in the server's log"},
    }
    if code.status == 503:
        headers["Retry-After"] = {"schema": {"type": "integer"}, "description": "Seconds to wait"}
    return headers
