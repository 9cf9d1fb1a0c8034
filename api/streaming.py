"""One track's audio on its way to a client, from the feed: while it is made, or from any moment afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final

import numpy as np
from starlette.types import Send
from structlog.typing import FilteringBoundLogger

from api.errors import ApiError, ErrorCode
from api.formats.audio import Encoder, LiveFormat, extension, live_encoder
from api.formats.rendition import Rendition
from api.generations.view import GenerationView
from api.seeds import track_seed
from api.store.errors import StoreError
from api.streams.access import Holding
from api.streams.hub import Feed
from api.streams.live import LiveResponse, Outcome, SlowListenerError, body
from api.streams.pieces import Piece, TrackHeader
from api.telemetry.decisions import Outcome as RequestOutcome
from api.telemetry.recorder import Subject, Telemetry
from api.telemetry.stream_record import StreamRecord
from api.tracing import span, tell
from models.errors import ReplicaLostError

_BY_CODE: Final[Mapping[ErrorCode, RequestOutcome]] = {
    ErrorCode.GENERATION_EXPIRED: "timeout",
    ErrorCode.GENERATION_CANCELLED: "cancelled",
    ErrorCode.GENERATION_NOT_FOUND: "cancelled",  # it was removed meanwhile
}


class AudioResponse(LiveResponse):
    """The audio of one track in a format that is made of 16-bit samples.

    Nothing is sent before the first piece is there: a refusal is still a clean status. An error after the first byte
    is raised, so that the server cuts the connection; it is counted and logged. A replica that dies on the way is no
    error: the pieces go on where they stopped.

    Args:
        view: the generation, as the caller may see it.
        audio_format: of the bytes.
        headers: further ones.
        record: counts it, if this request asked for the music.
        on_leave: awaited unless the track was sent to its end.
        patience_s: how long a client may take nothing.
        access: says when the client may listen no more; then the connection is cut.
    """

    def __init__(
        self,
        feed: Feed,
        view: GenerationView,
        position: int,
        audio_format: LiveFormat,
        *,
        request_id: str,
        telemetry: Telemetry,
        log: FilteringBoundLogger,
        patience_s: float,
        access: Holding | None = None,
        headers: dict[str, str] | None = None,
        record: StreamRecord | None = None,
        on_leave: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        super().__init__(patience_s=patience_s, access=access)
        self._feed, self._view, self._position = feed, view, position
        self._format = audio_format
        self._active = telemetry.active_streams(Subject.of(view.model_id, view.tier, view.mode))
        self._log = log.bind(request_id=request_id, generation_id=view.id, model=view.model_id)
        self._more_headers = headers or {}
        self._record = record
        self._on_leave = on_leave
        self._asked_at = time.perf_counter()
        self._samples_sent = 0
        self._is_whole = False

    async def _stream(self, send: Send) -> None:
        with span("stream", generation_id=self._view.id, model=self._view.model_id, format=self._format):
            await self._tell(send)

    async def _tell(self, send: Send) -> None:
        encoder: Encoder | None = None
        with self._active.track_inprogress():
            async with aclosing(self._feed.batches(self._view, self._position)) as batches:
                async for pieces in batches:
                    if encoder is None:
                        header = pieces[0].header
                        encoder = live_encoder(self._format, header.sample_rate, header.channels, header.total_samples)
                    await self._send_pieces(pieces, encoder, send)
            if encoder is None:
                raise ReplicaLostError("the track ended before its first sample")
            await self._send_body(await _finished(encoder), send, more=False)

    async def _send_pieces(self, pieces: Sequence[Piece], encoder: Encoder, send: Send) -> None:
        """In one message: Serve's proxy and its queues charge by the message."""
        header = pieces[0].header
        samples = np.frombuffer(b"".join(piece.pcm for piece in pieces), "<i2").reshape(-1, header.channels)
        self._note(pieces)
        data = await asyncio.to_thread(encoder.encode, samples) if encoder.is_slow else encoder.encode(samples)
        if not self._started:
            await self._start(send, self._stream_headers(header, encoder))
            self._note_first_audio(time.perf_counter() - self._asked_at)
        if data:
            await self._send_body(data, send, more=True)
        self._samples_sent += len(samples)
        # Of a body whose length was announced; other formats have an end of their own.
        self._is_whole = encoder.content_length is not None and self._samples_sent >= header.total_samples

    def _note(self, pieces: Sequence[Piece]) -> None:
        if self._record is not None:
            for piece in pieces:
                self._record.take(piece, np.frombuffer(piece.pcm, "<i2"))

    async def _send_body(self, data: bytes, send: Send, *, more: bool) -> None:
        if self._record is None:
            await send(body(data, more=more))
            return
        self._record.flush()
        await send(body(data, more=more))
        self._record.flushed()

    def _note_first_audio(self, waited_s: float) -> None:
        now_s = time.time()
        tell("first audio", now_s - waited_s, now_s)

    def _stream_headers(self, header: TrackHeader, encoder: Encoder) -> dict[str, str]:
        view = self._view
        name = view.id if view.num_tracks == 1 else f"{view.id}-{self._position}"
        headers = {
            "Content-Type": encoder.media_type,
            "Content-Disposition": f'inline; filename="{name}.{extension(self._format)}"',
            "Cache-Control": "no-store",
            "Accept-Ranges": "none",
            "X-Accel-Buffering": "no",  # a proxy that gathers the whole track would undo the streaming
            "X-Generation-ID": view.id,
            "X-Model": view.model_id,
            "X-Seed": str(track_seed(view.seed, self._position)),
            "X-Sample-Rate": str(Rendition(self._format).output_rate(header.sample_rate)),
            "X-Channels": str(header.channels),
            "X-Audio-Duration": f"{header.duration_s:.6f}",
            **({"X-Melody-Separation": view.melody_separation} if view.melody_separation is not None else {}),
            **self._more_headers,
        }
        if encoder.content_length is not None:
            headers["Content-Length"] = str(encoder.content_length)
        return headers

    async def _ended(self, outcome: Outcome, error: BaseException | None) -> None:
        if outcome == "disconnected" and self._is_whole:
            outcome = "completed"  # a client need not wait for more than the last byte
        if self._record is not None:
            self._record.end(_counted_as(outcome, error))
        if error is not None and outcome in ("cut", "too_slow"):
            name = error.code.value if isinstance(error, ApiError) else type(error).__name__
            self._log.error("stream_cut", error=name, reason=str(error), samples_sent=self._samples_sent)
        self._log.info("stream_ended", outcome=outcome, samples_sent=self._samples_sent)
        if outcome != "completed" and self._on_leave is not None:
            await self._leave(self._on_leave)

    async def _leave(self, on_leave: Callable[[], Awaitable[object]]) -> None:
        try:
            await on_leave()
        except (ApiError, StoreError) as error:
            self._log.warning("cancel_on_leaving_failed", error=type(error).__name__, reason=str(error))


def _counted_as(outcome: Outcome, error: BaseException | None) -> RequestOutcome:
    """How the request ended: who leaves, stops reading, or has it cancelled, has made its end."""
    if outcome == "completed":
        return "completed"
    if isinstance(error, ApiError):
        return _BY_CODE.get(error.code, "failed" if outcome in ("refused", "cut") else "cancelled")
    # A server that raises in send says that the client is gone.
    return "cancelled" if error is None or isinstance(error, SlowListenerError | OSError) else "failed"


async def _finished(encoder: Encoder) -> bytes:
    return await asyncio.to_thread(encoder.finish) if encoder.is_slow else encoder.finish()
