"""Events as ``text/event-stream`` (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import json
from contextlib import aclosing

from starlette.types import Send
from structlog.typing import FilteringBoundLogger

from api.errors import ApiError, envelope, from_tutti
from api.generations.view import GenerationView
from api.streams.access import Holding
from api.streams.events import Event, Narrator, Render, ResumePoint
from api.streams.hub import Feed
from api.streams.live import LiveResponse, Outcome, body
from api.telemetry.recorder import Telemetry
from models.errors import TuttiError

MEDIA_TYPE = "text/event-stream"
RECONNECT_AFTER_MS = 1000
PING = b": ping\n\n"
_HEADERS = {
    "Content-Type": f"{MEDIA_TYPE}; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # a proxy that gathers events would undo the streaming
}


class EventStream(LiveResponse):
    """One listener's events.

    An error that comes after the first byte is told as an ``error`` event and ends the stream, and so does a credential
    that is not good any more; a bug cuts it.

    Args:
        view: the generation, as the caller may see it.
        request_id: for the envelope.
        patience_s: how long a listener may take nothing.
        access: says when the listener may listen no more.
    """

    def __init__(
        self,
        feed: Feed,
        view: GenerationView,
        resume: ResumePoint,
        render: Render,
        *,
        audio: bool,
        request_id: str,
        telemetry: Telemetry,
        log: FilteringBoundLogger,
        patience_s: float,
        access: Holding | None = None,
    ) -> None:
        super().__init__(patience_s=patience_s, access=access)
        self._feed, self._view, self._resume, self._render = feed, view, resume, render
        self._audio = audio
        self._request_id = request_id
        self._listeners = telemetry.listeners("sse")
        self._log = log.bind(generation_id=view.id)

    async def _stream(self, send: Send) -> None:
        with self._listeners.track_inprogress():
            try:
                await self._tell(send)
            except (ApiError, TuttiError) as error:
                if not self._started:
                    raise
                await self._tell_last(error if isinstance(error, ApiError) else from_tutti(error), send)
            else:
                await send(body(b"", more=False))

    async def _tell(self, send: Send) -> None:
        async with self._feed.watch(self._view) as watch:
            narrator = Narrator(watch, self._resume, self._render, audio=self._audio)
            async with aclosing(narrator.events()) as events:
                async for event in events:
                    if not self._started:
                        await self._start(send, _HEADERS)
                        await send(body(b"retry: %d\n\n" % RECONNECT_AFTER_MS, more=True))
                    await send(body(PING if event is None else encode(event), more=True))

    async def _revoked(self, error: ApiError, send: Send) -> None:
        if not self._started:
            raise error
        await self._tell_last(error, send)

    async def _tell_last(self, error: ApiError, send: Send) -> None:
        self._log.warning("event_stream_error", code=error.code.value, reason=error.message)
        await send(body(encode(_error_event(error, self._request_id)), more=True))
        await send(body(b"", more=False))

    async def _ended(self, outcome: Outcome, error: BaseException | None) -> None:
        if error is not None and outcome == "cut":
            self._log.error("event_stream_cut", error=type(error).__name__, reason=str(error))
        self._log.info("event_stream_ended", outcome=outcome)


def encode(event: Event) -> bytes:
    """The event's lines. ``data`` is JSON and holds no line break."""
    head = f"id: {event.id}\n" if event.id is not None else ""
    return f"event: {event.name}\n{head}data: {event.data}\n\n".encode()


def _error_event(error: ApiError, request_id: str) -> Event:
    return Event("error", json.dumps(envelope(error, request_id), separators=(",", ":")))
