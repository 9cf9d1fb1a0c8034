"""Responses that last: sent while something is going on, given up cleanly on every way out.

Everything between the first look and the last byte happens in one call of the response, so there is no gap in which
something is open that nobody closes: it is opened inside, and a response that is never sent opens nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from api.errors import ApiError
from api.streams.access import Holding, Lost, refusal
from api.tasks import stop, to_the_end

Outcome = Literal["completed", "disconnected", "refused", "cut", "too_slow", "revoked"]


class SlowListenerError(Exception):
    """The client took nothing for longer than the server waits."""


class LiveResponse(Response):
    """What every one of them does; subclasses say in ``_stream`` what is sent, and in ``_ended`` what follows.

    Nothing need be sent before there is something to say: what ``_stream`` raises before its first message becomes a
    clean answer. What it raises afterwards goes on, so that the server cuts the connection.

    Args:
        patience_s: how long a message may wait for the client to take it.
        access: says when the client may listen no more; None: never.
    """

    def __init__(self, *, patience_s: float, access: Holding | None = None) -> None:
        super().__init__()
        self._patience_s = patience_s
        self._access: AbstractContextManager[Lost | None] = access or nullcontext()
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the end, until the client leaves, or until something breaks.

        Raises:
            SlowListenerError: the client has stopped reading.
            ApiError: the client may listen no more, and there is no other way to say so than to cut.
            asyncio.CancelledError: the server gives this request up; everything is closed first.
        """
        patient = self._patient(send)
        streaming = asyncio.create_task(self._stream(patient))
        leaving = asyncio.create_task(_client_left(receive))
        outcome: Outcome = "disconnected"
        error: BaseException | None = None
        try:
            with self._access as lost:
                ends: list[asyncio.Future[None]] = [streaming, leaving, *([lost] if lost is not None else [])]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                if streaming.done():
                    error = streaming.exception()
                    outcome = self._outcome(error)
                    streaming.result()
                elif lost is not None and (why := refusal(lost)) is not None:
                    error, outcome = why, "revoked"
                    await stop(streaming)
                    await self._revoked(why, patient)
        finally:
            # A server that sees its client leave says so, and then gives the request up: while this is under way.
            await to_the_end(self._close(streaming, leaving, outcome, error))

    async def _close(
        self, streaming: asyncio.Task[None], leaving: asyncio.Task[None], outcome: Outcome, error: BaseException | None
    ) -> None:
        await stop(streaming, leaving)
        if outcome == "disconnected" and not streaming.cancelled() and streaming.exception() is None:
            outcome = "completed"  # the last message was sent before anybody noticed
        await self._ended(outcome, error)

    async def _stream(self, send: Send) -> None:
        raise NotImplementedError

    async def _revoked(self, error: ApiError, send: Send) -> None:
        """The client may listen no more. As it is: refused cleanly before the first message, cut after it."""
        raise error

    async def _ended(self, outcome: Outcome, error: BaseException | None) -> None:
        """Called once, whichever way it ended, after everything was closed."""
        raise NotImplementedError

    async def _start(self, send: Send, headers: dict[str, str]) -> None:
        self._started = True
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})

    def _outcome(self, error: BaseException | None) -> Outcome:
        if error is None:
            return "completed"
        if isinstance(error, SlowListenerError):
            return "too_slow"
        return "cut" if self._started else "refused"

    def _patient(self, send: Send) -> Send:
        async def within_limit(message: Message) -> None:
            deadline = asyncio.timeout(self._patience_s)
            try:
                async with deadline:
                    await send(message)
            except TimeoutError as error:
                if not deadline.expired():
                    raise  # the server's own
                raise SlowListenerError(f"nothing was taken for {self._patience_s:g} s") from error

        return within_limit


def body(data: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
