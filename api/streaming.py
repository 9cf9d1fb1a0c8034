"""Audio leaves while it is made; whichever way the request ends, the backend's iterator is closed.

Everything between the first pull and the last byte happens in one call of the response, so there is no gap in which
an iterator exists that nobody closes: it is opened inside, and a response that is never sent opens nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from api.backend import Backend
from api.formats.audio import Encoder, LiveFormat, make_encoder, to_pcm16
from api.metrics import Metrics
from models.errors import ReplicaLostError
from models.types import AudioChunk, GenerationRequest


class AudioResponse(Response):
    """The audio of one generation, streamed.

    Nothing is sent before the first chunk is there: a refusal is still a clean status. An error after the first byte
    is raised, so that the server cuts the connection; it is counted and logged.

    Args:
        backend: makes the audio.
        generation: what to make.
        model_id: for headers, metrics and logs.
        audio_format: of the bytes.
        request_id: for logs.
    """

    def __init__(
        self,
        backend: Backend,
        generation: GenerationRequest,
        model_id: str,
        audio_format: LiveFormat,
        *,
        request_id: str,
        metrics: Metrics,
        log: FilteringBoundLogger,
    ) -> None:
        super().__init__()
        self._backend = backend
        self._generation = generation
        self._model_id = model_id
        self._format = audio_format
        self._metrics = metrics
        self._log = log.bind(request_id=request_id, generation_id=generation.request_id, model=model_id)
        self._asked_at = time.perf_counter()
        self._samples_sent = 0
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the track ends, the client leaves, or something breaks.

        Raises:
            TuttiError: what the backend raised, before or after the first byte.
            asyncio.CancelledError: the server gives this request up; the backend is closed first.
        """
        streaming = asyncio.create_task(self._stream(send))
        leaving = asyncio.create_task(_client_left(receive))
        outcome = "disconnected"
        with self._metrics.active_streams.labels(self._model_id).track_inprogress():
            try:
                await asyncio.wait({streaming, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if streaming.done():
                    outcome = self._outcome(streaming)
                    streaming.result()
            finally:
                await _stop(streaming, leaving)
                self._metrics.streams.labels(self._model_id, self._format, outcome).inc()
                self._log.info("stream_ended", outcome=outcome, samples_sent=self._samples_sent)

    async def _stream(self, send: Send) -> None:
        # Every backend's verb is an async generator; closing it is what frees the rows.
        verb = cast("AsyncGenerator[AudioChunk]", self._backend.generate(self._generation))
        encoder: Encoder | None = None
        ended = False
        async with aclosing(verb) as chunks:
            async for chunk in chunks:
                if encoder is None:
                    encoder = make_encoder(self._format, chunk)
                ended = chunk.is_last
                await self._send_chunk(chunk, encoder, send)
        if encoder is None or not ended:
            raise ReplicaLostError("the audio ended before its end marker")
        await send(_body(encoder.finish(), more=False))

    async def _send_chunk(self, chunk: AudioChunk, encoder: Encoder, send: Send) -> None:
        if chunk.first_sample != self._samples_sent:
            raise ReplicaLostError(f"samples {self._samples_sent} to {chunk.first_sample} are missing")
        samples = to_pcm16(chunk.pcm, chunk.channels)
        data = await asyncio.to_thread(encoder.encode, samples) if encoder.is_slow else encoder.encode(samples)
        if not self._started:
            await self._start(chunk, encoder, send)
        if data:
            await send(_body(data, more=True))
        self._samples_sent += len(samples)
        self._metrics.audio_seconds.labels(self._model_id).inc(chunk.duration_s)

    async def _start(self, first: AudioChunk, encoder: Encoder, send: Send) -> None:
        headers = self._stream_headers(first, encoder)
        self._started = True
        self._metrics.first_audio.labels(self._model_id).observe(time.perf_counter() - self._asked_at)
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})

    def _stream_headers(self, first: AudioChunk, encoder: Encoder) -> dict[str, str]:
        generation = self._generation
        headers = {
            "Content-Type": encoder.media_type,
            "Content-Disposition": f'inline; filename="{generation.request_id}.{self._format}"',
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # a proxy that gathers the whole track would undo the streaming
            "X-Generation-ID": generation.request_id,
            "X-Model": self._model_id,
            "X-Seed": str(generation.seed),
            "X-Sample-Rate": str(first.sample_rate),
            "X-Channels": str(first.channels),
            "X-Audio-Duration": f"{first.total_samples / first.sample_rate:.6f}",
        }
        if encoder.content_length is not None:
            headers["Content-Length"] = str(encoder.content_length)
        return headers

    def _outcome(self, streaming: asyncio.Task[None]) -> str:
        error = streaming.exception()
        if error is None:
            return "completed"
        if not self._started:
            return "refused"
        name = type(error).__name__
        self._metrics.cut_streams.labels(self._model_id, name).inc()
        self._log.error("stream_cut", error=name, reason=str(error), samples_sent=self._samples_sent)
        return "cut"


def _body(data: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _stop(*tasks: asyncio.Task[None]) -> None:
    """Cancel what still runs and wait until it has ended, so that the iterator is closed when this returns."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
