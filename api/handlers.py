"""From whatever is raised to the one envelope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.errors import ApiError, ErrorCode, error_response, from_tutti
from api.methods import Methods, address_of, not_allowed
from api.services import Services
from models.errors import TuttiError

_MAX_REPORTED = 20
_MAX_NAME_CHARACTERS = 100
_BY_STATUS = {
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    413: ErrorCode.PAYLOAD_TOO_LARGE,
}
# Ours where pydantic's own words speak of its insides.
_WORDS = {"extra_forbidden": "is no parameter of this request: remove it", "missing": "is missing: add it"}
# What pydantic says of a body that is not a JSON object at all.
_NO_OBJECT = frozenset({"json_invalid", "model_attributes_type", "dict_type", "missing"})


def install(app: FastAPI) -> None:
    """Register the handlers. Errors that none of them takes are bugs; the outermost middleware answers for those."""

    async def tutti_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, TuttiError)
        told = from_tutti(error)
        if told.status_code == 500:
            # Broken seals, missing keys and the like: the client learns nothing of it, so the log has to say it.
            services: Services = request.app.state.services
            request_id = request.state.request_id
            services.log.error("internal_error", code=told.code.value, request_id=request_id, exc_info=error)
        return error_response(request, told)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            methods: Methods = request.app.state.methods
            return error_response(request, not_allowed(methods.of(address_of(request.scope))))
        return error_response(request, _from_http(error))

    async def validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return error_response(request, from_validation(error.errors()))

    app.add_exception_handler(TuttiError, tutti_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, validation_error)


def _from_http(error: HTTPException) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if error.status_code == 400:
        # FastAPI's own, for bodies that break the JSON parser itself: bad UTF-8, endless nesting, giant numbers.
        return ApiError(ErrorCode.MALFORMED_BODY)
    default = ErrorCode.INTERNAL_ERROR if error.status_code >= 500 else ErrorCode.REQUEST_REFUSED
    return ApiError(_BY_STATUS.get(error.status_code, default), headers=error.headers)


def from_validation(errors: Sequence[Any]) -> ApiError:
    """All that pydantic found, the first one up front. What the client sent is not repeated, only where it is wrong."""
    first = errors[0]
    if first["type"] in _NO_OBJECT and (len(first["loc"]) == 1 or first["type"] == "json_invalid"):
        at = first["loc"][1:] if first["type"] == "json_invalid" else ()
        where = f" (the JSON breaks at character {at[0]})" if at else ""
        return ApiError(ErrorCode.MALFORMED_BODY, f"{ErrorCode.MALFORMED_BODY.meaning}{where}")
    found = [
        {"param": _param(e["loc"]), "message": _WORDS.get(e["type"], e["msg"]), "kind": e["type"]}
        for e in errors[:_MAX_REPORTED]
    ]
    message = "; ".join(f"{item['param']}: {item['message']}" for item in found)
    return ApiError(ErrorCode.INVALID_PARAMETER, message, param=found[0]["param"], details={"errors": found})


def _param(location: Sequence[str | int]) -> str:
    """("body", "seed") → "seed"; long names are cut, they are the client's."""
    return ".".join(str(part)[:_MAX_NAME_CHARACTERS] for part in location[1:]) or "body"
