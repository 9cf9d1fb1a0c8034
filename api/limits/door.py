"""Refuse creates before anything is done for them: no body, no database, no cache, no dependency of a route.

Two reasons. *The line of this process stands*: a process that takes every request keeps a queue without an end, in its
event loop, before the database's writer; past its capacity it then answers nobody in time. So, in the manner of CoDel
(RFC 8289), what counts is how long the oldest create has waited for its decision: a burst is let in, a queue that
stands is not. *It is known already*: the account was seen a moment ago, and as the backlog was then, nothing it could
ask for would be let in. Saying so here costs a fraction of what it costs behind the routes.

Only creates are refused. What was accepted goes on, and whoever listens or looks is answered. A call with an
Idempotency-Key is refused for the first reason only: it may be the repetition of one that was accepted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import ApiError, ErrorCode, error_response
from api.limits.coming_back import MAX_LATER_S, ComingBack
from api.limits.concurrency import Mode
from api.limits.idempotency import HEADER
from api.methods import address_of
from api.telemetry.requests import note_create

WAITING: Final = 32
"""As many may always wait: about what one process decides in a quarter of a second."""
STANDING_S: Final = 0.1
"""More may only wait while the oldest has not waited for this long."""
_PACE_S: Final = 5
_CREATES: Final[dict[str, Mode]] = {"/api/v1/generate": "async", "/api/v1/generate/stream": "stream"}
_STATE = "undecided"

KnownRefusal = Callable[[HTTPConnection, Mode], ApiError | None]
"""What is known without asking anybody of a create that was not read yet; None: nothing speaks against it."""


class Undecided:
    """The creates that one process has taken and neither accepted nor refused, oldest first.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[int, float] = {}  # in the order of arrival
        self._next = 0
        self._pace = _Pace(clock)
        self._outside = ComingBack(clock)

    def __len__(self) -> int:
        return len(self._since)

    @property
    def is_full(self) -> bool:
        """A queue stands."""
        if len(self._since) < WAITING:
            return False
        return self._clock() - next(iter(self._since.values())) > STANDING_S

    def enter(self) -> int:
        """One more; returns its number."""
        self._next += 1
        self._since[self._next] = self._clock()
        return self._next

    def leave(self, number: int) -> None:
        """It was decided. Once is enough, twice does no harm."""
        if self._since.pop(number, None) is not None:
            self._pace.count()

    def turn_away(self) -> float:
        """One was not even let into the line: seconds until those in it, and those turned away before, are decided."""
        later_s = min((len(self._since) + self._outside.amount) / self._pace.per_s, MAX_LATER_S)
        self._outside.add(1.0, later_s)
        return later_s


class _Pace:
    """Decisions per second: of the best of the last seconds, so that a short stop is not taken for a slow server."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seconds: deque[tuple[int, int]] = deque(maxlen=_PACE_S)  # (second, decisions in it)

    def count(self) -> None:
        second = int(self._clock())
        decided = self._seconds.pop()[1] if self._seconds and self._seconds[-1][0] == second else 0
        self._seconds.append((second, decided + 1))

    @property
    def per_s(self) -> float:
        """At least one, so that an advice can be given by who has decided nothing yet."""
        oldest = int(self._clock()) - _PACE_S
        return max([1.0, *(decided for second, decided in self._seconds if second > oldest)])


class Door:
    """Pure ASGI middleware before the routes, behind the one that settles which version is asked.

    Args:
        known: a refusal of which one can be sure without reading the call.
    """

    def __init__(self, app: ASGIApp, undecided: Undecided, known: KnownRefusal) -> None:
        self._app = app
        self._undecided = undecided
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        mode = _create(scope)
        if mode is None:
            await self._app(scope, receive, send)
            return
        note_create(scope.setdefault("state", {}), mode)
        refusal = self._refusal(scope, mode)
        if refusal is not None:
            # For the log and the counters, since no router has seen it.
            scope.setdefault("state", {})["route"] = address_of(scope)
            await error_response(Request(scope), refusal)(scope, receive, send)
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

    def _refusal(self, scope: Scope, mode: Mode) -> ApiError | None:
        if self._undecided.is_full:
            return _busy(self._undecided.turn_away())
        return None if HEADER in Headers(scope=scope) else self._known(HTTPConnection(scope), mode)


def decided(request: Request, undecided: Undecided) -> None:
    """Say that a create was accepted, when its answer is still to wait for the music."""
    number: int | None = getattr(request.state, _STATE, None)
    if number is not None:
        undecided.leave(number)


def _create(scope: Scope) -> Mode | None:
    """How the audio of a create is wanted; None: it is something else."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    return _CREATES.get(address_of(scope))


def _busy(retry_after_s: float) -> ApiError:
    return ApiError(
        ErrorCode.SYSTEM_OVERLOADED,
        "this server is asked more than it can answer at the moment: send it again after Retry-After seconds",
        retry_after_s=retry_after_s,
    )
