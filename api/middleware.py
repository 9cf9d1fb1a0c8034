"""Pure ASGI middleware: every message passes through one by one.

Never ``BaseHTTPMiddleware``: it would turn a stream that broke into one that ended well.
"""

from __future__ import annotations

import secrets
import time

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import ApiError, ErrorCode, error_response
from api.services import Services

# With these a client could tell Ray Serve to go on after a disconnect, to drop timeouts or to pick a replica.
CONTROL_HEADERS = frozenset(
    {
        b"x-request-disconnect-disabled",
        b"x-request-timeout-seconds",
        b"x-session-id",
        b"serve_multiplexed_model_id",
        b"x-request-id",  # always minted here
    }
)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CLIENT_LEFT = 499  # nothing was sent; nginx's number for it
_API_POLICY = "default-src 'none'; frame-ancestors 'none'"
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"


class RequestContext:
    """Outermost: mints the request id, writes the access log, and answers for errors nobody else handled."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(new_id("req"), send)
        scope.setdefault("state", {})["request_id"] = exchange.request_id
        try:
            await self._app(scope, receive, exchange.send)
        except Exception as error:
            # After the first byte the exception goes on: the server below then cuts the connection.
            if exchange.status is not None:
                raise
            self._services.log.error("internal_error", request_id=exchange.request_id, exc_info=error)
            response = error_response(Request(scope), ApiError(ErrorCode.INTERNAL_ERROR))
            await response(scope, receive, exchange.send)
        finally:
            self._record(scope, exchange)

    def _record(self, scope: Scope, exchange: _Exchange) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        status = exchange.status or _CLIENT_LEFT
        self._services.metrics.requests.labels(method, route, str(status)).inc()
        self._services.log.info(
            "request",
            request_id=exchange.request_id,
            method=method,
            route=route,
            status=status,
            complete=exchange.complete,
            bytes_sent=exchange.bytes_sent,
            duration_ms=round(1000 * (time.perf_counter() - exchange.began_at), 1),
        )


class _Exchange:
    """What is seen of one response on its way out."""

    def __init__(self, request_id: str, send: Send) -> None:
        self.request_id = request_id
        self.began_at = time.perf_counter()
        self.status: int | None = None
        self.bytes_sent = 0
        self.complete = False
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.request_id
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
            headers.setdefault("Content-Security-Policy", _API_POLICY)
            self.status = message["status"]
        await self._send(message)
        if message["type"] == "http.response.body":
            self.bytes_sent += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)


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
    """Refuse bodies over the cap: by their Content-Length, or while they arrive if they have none (or lie)."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Request(scope).headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > self._max_bytes:
            await error_response(Request(scope), self._too_large())(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self._max_bytes:
                    raise self._too_large()
            return message

        await self._app(scope, counted, send)

    def _too_large(self) -> ApiError:
        message = f"the body is larger than {self._max_bytes} bytes: send a smaller one"
        return ApiError(ErrorCode.PAYLOAD_TOO_LARGE, message, details={"max_bytes": self._max_bytes})
