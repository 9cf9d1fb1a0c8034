"""Pure ASGI middleware: every message passes through one by one.

Never ``BaseHTTPMiddleware``: it would turn a stream that broke into one that ended well.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import deprecations
from api.auth.principal import Principal
from api.errors import ApiError, ErrorCode, error_response
from api.headers import API_POLICY, CONTROL_HEADERS, SECURITY_HEADERS
from api.ids import new_id
from api.logs import request_scope
from api.services import Services
from api.telemetry.requests import count_refusal, is_refused_create

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CLIENT_LEFT = 499  # nothing was sent; nginx's number for it
_DENIAL = "websocket.http.response"
_STARTS = frozenset({"http.response.start", "websocket.accept", f"{_DENIAL}.start"})
_BODIES = frozenset({"http.response.body", f"{_DENIAL}.body"})


class RequestContext:
    """Outermost: mints the request id, writes the access log, and answers for errors nobody else handled."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        state: dict[str, Any] = scope.setdefault("state", {})
        exchange = _Exchange(new_id("req"), state, send)
        state["request_id"], state["began_at"] = exchange.request_id, exchange.began_at
        with request_scope(exchange.request_id):
            try:
                await self._app(scope, receive, _denial(scope, receive, exchange))
            except Exception as error:
                # After the first byte the exception goes on: the server below then cuts the connection.
                if exchange.status is not None:
                    raise
                self._services.log.error("internal_error", request_id=exchange.request_id, exc_info=error)
                response = error_response(HTTPConnection(scope), ApiError(ErrorCode.INTERNAL_ERROR))
                await response(scope, receive, exchange.send)
            finally:
                self._record(scope, exchange)

    def _record(self, scope: Scope, exchange: _Exchange) -> None:
        # Whoever answers before the router says which route was asked for; the router's own word counts more.
        route = getattr(scope.get("route"), "path", scope["state"].get("route", "unmatched"))
        method = scope.get("method", "WEBSOCKET")
        method = method if method in _METHODS or method == "WEBSOCKET" else "OTHER"
        status = exchange.status or _CLIENT_LEFT
        principal = scope["state"].get("principal")
        self._services.telemetry.answered(method, route, status)
        if is_refused_create(scope["state"]):
            self._count_refusal(scope, exchange, principal)
        self._services.log.info(
            "request",
            request_id=exchange.request_id,
            account_id=getattr(principal, "account_id", None),
            method=method,
            route=route,
            status=status,
            complete=exchange.complete,
            bytes_sent=exchange.bytes_sent,
            duration_ms=round(1000 * (time.perf_counter() - exchange.began_at), 1),
        )

    def _count_refusal(self, scope: Scope, exchange: _Exchange, principal: Principal | None) -> None:
        if principal is None:  # refused before anybody asked who it is; perhaps it is known from a moment ago
            principal = self._services.accounts.remembered(HTTPConnection(scope))
        tier = principal.tier if principal is not None else None
        count_refusal(scope["state"], self._services.telemetry, tier, exchange.status, exchange.error_code)


class _Exchange:
    """What is seen of one response on its way out.

    Args:
        request_id: sent with it.
        state: of the request; holds the deprecations that it met.
        send: of the server.
    """

    def __init__(self, request_id: str, state: dict[str, Any], send: Send) -> None:
        self.request_id = request_id
        self.began_at = time.perf_counter()
        self.status: int | None = None
        self.error_code: str | None = None
        self.bytes_sent = 0
        self.complete = False
        self._state = state
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] in _STARTS:
            self._add_headers(message)
            self.status = message.get("status", 101)
        await self._send(message)
        if message["type"] in _BODIES:
            self.bytes_sent += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        elif message["type"] == "websocket.close":
            self.complete = True

    def _add_headers(self, message: Message) -> None:
        message.setdefault("headers", [])
        headers = MutableHeaders(scope=message)
        headers["X-Request-ID"] = self.request_id
        self.error_code = headers.get("X-Error-Code")
        for name, value in deprecations.headers(self._state.get("deprecations", ())):
            headers.append(name, value)
        if message["type"] == "websocket.accept":
            return  # the rest is for documents
        for name, value in SECURITY_HEADERS.items():
            headers[name] = value
        headers.setdefault("Content-Security-Policy", API_POLICY)


def _denial(scope: Scope, receive: Receive, exchange: _Exchange) -> Send:
    """``exchange.send``, but a WebSocket that is closed before it was accepted is told why, in the one envelope.

    Starlette closes so when no route matches, and a server turns that into a 403 without a body.
    """
    if scope["type"] == "http":
        return exchange.send

    async def send(message: Message) -> None:
        refused = message["type"] == "websocket.close" and exchange.status is None
        if refused and _DENIAL in scope.get("extensions", {}):
            response = error_response(HTTPConnection(scope), ApiError(ErrorCode.NOT_FOUND))
            await response(scope, receive, exchange.send)
        else:
            await exchange.send(message)

    return send


class StripControlHeaders:
    """Remove the headers by which a client could steer the server's own machinery."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "headers" in scope:
            # In place: what the router writes into the scope is read by the access log outside.
            scope["headers"] = [pair for pair in scope["headers"] if pair[0].lower() not in CONTROL_HEADERS]
        await self._app(scope, receive, send)


class BodyLimit:
    """Refuse bodies over the cap: by their Content-Length, or while they arrive if they have none (or lie).

    Args:
        exceptions: method and path → another cap.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, exceptions: Mapping[tuple[str, str], int] | None = None) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._exceptions = dict(exceptions or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._exceptions.get((scope["method"], scope["path"]), self._max_bytes)
        declared = Request(scope).headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > most:
            await error_response(Request(scope), _too_large(most))(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > most:
                    raise _too_large(most)
            return message

        await self._app(scope, counted, send)


def _too_large(max_bytes: int) -> ApiError:
    message = f"the body is larger than {max_bytes} bytes: send a smaller one"
    return ApiError(ErrorCode.PAYLOAD_TOO_LARGE, message, details={"max_bytes": max_bytes})
