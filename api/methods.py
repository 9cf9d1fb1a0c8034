"""Which methods an address takes, over the whole route table.

A router asks one route after the other. So an address that is written out, such as ``/generate/stream`` (POST), would
for any other method be taken by a route with a parameter in that place, ``/generate/{generation_id}`` (GET), which then
complains of an id that nobody sent. And where several routes share an address, it names only the first one's methods.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from fastapi.routing import iter_route_contexts
from starlette.requests import Request
from starlette.routing import BaseRoute, compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import ApiError, ErrorCode, error_response

_PARAMETER: Final = "{"


class Methods:
    """The route table, read once, after the last route was added."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self.written_out: dict[str, frozenset[str]] = {}
        patterns: dict[str, frozenset[str]] = {}
        for route in iter_route_contexts(routes):
            if route.path is None or not route.methods:
                continue  # a WebSocket's
            known = patterns if _PARAMETER in route.path else self.written_out
            known[route.path] = known.get(route.path, frozenset()) | frozenset(route.methods)
        self._patterns: list[tuple[re.Pattern[str], frozenset[str]]] = [
            (compile_path(path)[0], methods) for path, methods in patterns.items()
        ]

    def of(self, path: str) -> frozenset[str]:
        """Of an address; empty: there is none."""
        written_out = self.written_out.get(path)
        if written_out is not None:
            return written_out
        return frozenset().union(*(methods for pattern, methods in self._patterns if pattern.match(path)))


class WrittenOut:
    """Pure ASGI middleware: an address that is written out in the route table takes its own methods and no others."""

    def __init__(self, app: ASGIApp, methods: Methods) -> None:
        self._app = app
        self._methods = methods.written_out

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = address_of(scope)
            taken = self._methods.get(path)
            if taken is not None and scope["method"] not in taken:
                scope.setdefault("state", {})["route"] = path
                await error_response(Request(scope), not_allowed(taken))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def address_of(scope: Scope) -> str:
    """The path as the route table knows it."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def not_allowed(methods: Iterable[str]) -> ApiError:
    """405, with what is allowed instead."""
    return ApiError(ErrorCode.METHOD_NOT_ALLOWED, headers={"Allow": ", ".join(sorted(methods))})
