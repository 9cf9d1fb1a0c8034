"""Refuse creates while more of them wait than this process can decide: before authentication, body and database.

A process that takes every request keeps a queue without an end: in its event loop, before the cache's connections,
before the database's writer. Past its capacity it then answers nobody in time. So, in the manner of CoDel (RFC 8289),
what counts is how long the oldest create has waited for its decision: a burst is let in, a queue that stands is not.

Only creates are refused. What was accepted goes on, and whoever listens or looks is answered.
"""

from __future__ import annotations

import time
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import RETRY_SOON_S, ApiError, ErrorCode, error_response

WAITING: Final = 32
"""As many may always wait: about what one process decides in a quarter of a second."""
STANDING_S: Final = 0.1
"""More may only wait while the oldest has not waited for this long."""
_CREATES = frozenset({"/api/v1/generate", "/api/v1/generate/stream"})
_STATE = "undecided"


class Undecided:
    """The creates that one process has taken and neither accepted nor refused, oldest first."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}  # in the order of arrival
        self._next = 0

    def __len__(self) -> int:
        return len(self._since)

    @property
    def is_full(self) -> bool:
        """A queue stands."""
        if len(self._since) < WAITING:
            return False
        return time.monotonic() - next(iter(self._since.values())) > STANDING_S

    def enter(self) -> int:
        """One more; returns its number."""
        self._next += 1
        self._since[self._next] = time.monotonic()
        return self._next

    def leave(self, number: int) -> None:
        """It was decided. Once is enough, twice does no harm."""
        self._since.pop(number, None)


class Door:
    """Pure ASGI middleware: answers creates with system_overloaded while a queue of them stands."""

    def __init__(self, app: ASGIApp, undecided: Undecided) -> None:
        self._app = app
        self._undecided = undecided

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_create(scope):
            await self._app(scope, receive, send)
            return
        if self._undecided.is_full:
            await error_response(Request(scope), _busy())(scope, receive, send)
            return
        number = self._undecided.enter()
        scope.setdefault("state", {})[_STATE] = number

        async def leaving(message: Message) -> None:
            self._undecided.leave(number)
            await send(message)

        try:
            await self._app(scope, receive, leaving)
        finally:
            self._undecided.leave(number)


def decided(request: Request, undecided: Undecided) -> None:
    """Say that a create was accepted, when its answer is still to wait for the music."""
    number: int | None = getattr(request.state, _STATE, None)
    if number is not None:
        undecided.leave(number)


def _is_create(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in _CREATES


def _busy() -> ApiError:
    return ApiError(
        ErrorCode.SYSTEM_OVERLOADED,
        "this server is asked more than it can answer at the moment: send it again after Retry-After seconds",
        retry_after_s=RETRY_SOON_S,
    )
