"""Which version of the API a request speaks: by its address or by its Accept header.

``/api/v1/models`` and ``/models`` with ``Accept: application/vnd.tutti.v1+json`` are the same. A version that is not
served is refused with 406, in either place, never guessed. ``application/vnd.tutti+json`` means the newest one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import ApiError, ErrorCode, error_response

VERSIONS = ("v1",)
NEWEST = VERSIONS[-1]
# First segments of addresses that belong to no version; everything else of the API is below /api/.
UNVERSIONED = frozenset({"", "api", "errors", "health", "metrics", "openapi.json", "slo", "version", "web"})
_IN_PATH = re.compile(r"/api/(v[0-9]+)(?:/|$)")
_MEDIA_TYPE = re.compile(r"\s*application/vnd\.tutti(?:\.(v[^+;\s]*))?\+json\s*(?:;.*)?", re.IGNORECASE)


class Versions:
    """Middleware: settles the version, gives unprefixed addresses their prefix, and answers in the type asked for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        asked = _take_from_accept(scope)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        try:
            version = _settle(asked, _IN_PATH.match(path))
        except ApiError as error:
            await error_response(HTTPConnection(scope), error)(scope, receive, send)
            return
        if asked and version is not None:
            _add_prefix(scope, path, version)
            send = _answering_as(f"application/vnd.tutti.{version}+json", send)
        await self._app(scope, receive, send)


def _take_from_accept(scope: Scope) -> list[str]:
    """The versions that Accept names; their media types are removed, so that what is left speaks of formats only."""
    headers = Headers(scope=scope)
    parts = [part for value in headers.getlist("accept") for part in value.split(",")]
    found = [_MEDIA_TYPE.fullmatch(part) for part in parts]
    versions = [(match[1] or NEWEST).lower() for match in found if match]
    if versions:
        rest = ",".join(part for part, match in zip(parts, found, strict=True) if not match)
        kept = [pair for pair in scope["headers"] if pair[0].lower() != b"accept"]
        scope["headers"] = [*kept, (b"accept", rest.encode("latin-1"))] if rest.strip() else kept
    return versions


def _settle(asked: Sequence[str], in_path: re.Match[str] | None) -> str | None:
    """The version of this request, None where no one named any.

    Raises:
        ApiError: unsupported_version.
    """
    if in_path is not None and in_path[1] not in VERSIONS:
        raise _unsupported("the address names a version that is not served here")
    served = [version for version in asked if version in VERSIONS]
    if asked and not served:
        raise _unsupported("the Accept header names a version that is not served here")
    if in_path is None:
        return served[0] if served else None
    if served and in_path[1] not in served:
        raise _unsupported("the address and the Accept header name different versions")
    return in_path[1]


def _unsupported(reason: str) -> ApiError:
    message = f"{reason}: use {' or '.join(VERSIONS)}"
    return ApiError(ErrorCode.UNSUPPORTED_VERSION, message, details={"available": list(VERSIONS)})


def _add_prefix(scope: Scope, path: str, version: str) -> None:
    if path.split("/", 2)[1] not in UNVERSIONED:
        # In place: what the router writes into the scope is read by the access log outside.
        scope["path"] = f"{scope.get('root_path', '')}/api/{version}{path}"
        scope["raw_path"] = scope["path"].encode()


def _answering_as(media_type: str, send: Send) -> Send:
    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.add_vary_header("Accept")
            if headers.get("content-type") == "application/json":
                headers["content-type"] = media_type
        await send(message)

    return answer
