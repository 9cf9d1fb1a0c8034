"""What Ray Serve's HTTP proxy says by itself, said in the API's own words.

Serve calls ``middlewares`` in every proxy (``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH``) and puts what it returns
around its own application. Read in ray 2.60 (serve/_private/http_util.py, proxy.py): the proxy answers 404 when no
application is deployed, 503 and 408 as plain text, nothing at all when the gateway dies before its first byte (uvicorn
then says "Internal Server Error"), trusts a client's X-Request-ID, and adds that header beside the one of the gateway.

``api`` is above this package, so it is named as text.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("tutti.proxy")

RETRY_AFTER_S = 2.0
_REQUEST_ID = b"x-request-id"
_OURS = b"req_"  # how the gateway's ids begin; Serve's own are UUIDs


def middlewares() -> list[Middleware]:
    """For Serve: the last one is the outermost."""
    return [Middleware(ProxyAnswers)]


class ProxyAnswers:
    """One envelope and one request id on every answer, whoever in the chain gives it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._words = _Words()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "headers" in scope:
            # Serve reads these in the proxy, before the gateway can drop them.
            scope["headers"] = self._words.without_control_headers(scope["headers"])
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, receive, send, self._words)
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            # After the first byte the exception goes on: the server below then cuts the connection.
            if answer.began:
                raise
            logger.exception("the proxy failed")
            await answer.replace(500)
        else:
            if not answer.began:
                # Serve says nothing when the gateway went away with the request, or when the client did.
                await answer.replace(503)


class _Answer:
    """One response on its way out of the proxy."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, words: _Words) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._words = words
        self.began = False
        self._replaced = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.began = True
            ids = [value for name, value in message["headers"] if name.lower() == _REQUEST_ID]
            ours = next((value for value in ids if value.startswith(_OURS)), None)
            if ours is None and message["status"] >= 400:
                await self.replace(message["status"], message["headers"])
                return
            message = {**message, "headers": _with_one_id(message["headers"], ours or self._words.new_id())}
        if not self._replaced:
            await self._send(message)

    async def replace(self, status: int, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Send the envelope in place of whatever the proxy says with this status."""
        self._replaced = True
        retry_after = next((value for name, value in headers if name.lower() == b"retry-after"), b"")
        after_s = float(retry_after) if retry_after.isdigit() else RETRY_AFTER_S
        response = self._words.answer(self._scope, status, after_s)
        await response(self._scope, self._receive, self._send)


def _with_one_id(headers: Iterable[tuple[bytes, bytes]], request_id: bytes) -> list[tuple[bytes, bytes]]:
    return [*(pair for pair in headers if pair[0].lower() != _REQUEST_ID), (_REQUEST_ID, request_id)]


class _Words:
    """The API's vocabulary, loaded where the proxy runs."""

    def __init__(self) -> None:
        self._errors: Any = importlib.import_module("api.errors")
        self._headers: Any = importlib.import_module("api.headers")
        self._ids: Any = importlib.import_module("api.ids")
        codes = self._errors.ErrorCode
        # 404 means that no application is deployed here (ours takes every address), so it is not for ever.
        self._codes = {404: codes.GATEWAY_UNAVAILABLE, 408: codes.REQUEST_TIMEOUT, 503: codes.GATEWAY_UNAVAILABLE}

    def new_id(self) -> bytes:
        return str(self._ids.new_id("req")).encode()

    def without_control_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        return [pair for pair in headers if pair[0].lower() not in self._headers.CONTROL_HEADERS]

    def answer(self, scope: Scope, status: int, retry_after_s: float) -> Any:
        """An ASGI response: the envelope for what the proxy would have said with this status."""
        code = self._codes.get(status, self._errors.ErrorCode.INTERNAL_ERROR)
        request_id = self.new_id()
        logger.warning("request %s: answered by the proxy: %s", request_id.decode(), code.value)
        error = self._errors.ApiError(code, retry_after_s=retry_after_s if code.retryable else None)
        response = self._errors.error_response(Request({**scope, "state": {"request_id": request_id.decode()}}), error)
        for name, value in self._headers.SECURITY_HEADERS.items():
            response.headers[name] = value
        response.headers["X-Request-ID"] = request_id.decode()
        response.headers["Content-Security-Policy"] = self._headers.API_POLICY
        return response
