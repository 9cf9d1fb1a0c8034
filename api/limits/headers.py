"""What is left of an account's request rate, on every authenticated response."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class RateState:
    """One policy after one hit.

    Attributes:
        policy: its name.
        limit: hits in any ``window_s`` seconds.
        remaining: hits that would pass now.
        reset_s: seconds until there is room for more.
    """

    policy: str
    limit: int
    remaining: int
    reset_s: float
    window_s: int

    def headers(self) -> dict[str, str]:
        """``X-RateLimit-*``, whose reset is a Unix time as most APIs have it, and the pair of
        draft-ietf-httpapi-ratelimit-headers-10, whose ``t`` is a number of seconds."""
        reset_s = math.ceil(self.reset_s)
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(math.ceil(time.time() + self.reset_s)),
            "RateLimit": f'"{self.policy}";r={self.remaining};t={reset_s}',
            "RateLimit-Policy": f'"{self.policy}";q={self.limit};w={self.window_s}',
        }


class RateHeaders:
    """Pure ASGI middleware: writes the headers of ``request.state.rate``, if somebody has put a RateState there."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                rate = state.get("rate")
                if isinstance(rate, RateState):
                    headers = MutableHeaders(scope=message)
                    for name, value in rate.headers().items():
                        headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)
