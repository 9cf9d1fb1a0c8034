"""The gateway's entry into a trace: pure ASGI, outside everything else."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.tracing import TRACEPARENT, Span, Tracing

_UNTRACED = ("/health", "/metrics")  # asked every few seconds by machines
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Traced:
    """A span around every request, with the client's trace as its parent if it sends a ``traceparent`` (W3C).

    Its ``tracestate`` and ``baggage`` are other vendors' words and go no further.
    """

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"].startswith(_UNTRACED):
            await self._app(scope, receive, send)
            return
        method = scope.get("method", "WEBSOCKET")
        method = method if method in _METHODS or method == "WEBSOCKET" else "OTHER"
        scope.setdefault("state", {})
        attributes = {"http.request.method": method}
        with self._tracing.enter(method, _traceparent(scope), "server", **attributes) as span:
            try:
                await self._app(scope, receive, _watched(send, span))
            finally:
                _describe(span, scope)


def _traceparent(scope: Scope) -> str | None:
    """The header, if there is exactly one."""
    found = [value for name, value in scope["headers"] if name.lower() == TRACEPARENT.encode()]
    return found[0].decode("latin-1") if len(found) == 1 else None


def _watched(send: Send, span: Span) -> Send:
    async def watched(message: Message) -> None:
        if "status" in message:
            span.set_attribute("http.response.status_code", message["status"])
            if message["status"] >= 500:
                span.set_attribute("error.type", str(message["status"]))
        await send(message)

    return watched


def _describe(span: Span, scope: Scope) -> None:
    route = getattr(scope.get("route"), "path", scope["state"].get("route"))
    if route is not None:
        span.set_attribute("http.route", route)
        span.update_name(f"{scope.get('method', 'WEBSOCKET')} {route}")
    if (request_id := scope["state"].get("request_id")) is not None:
        span.set_attribute("tutti.request_id", request_id)
