"""One track's part of a trace in the replica: a span for the engine's work, and below it what its stages took."""

from __future__ import annotations

from typing import Any

from models.engine.stage_times import StageTimes
from models.types import GenerationRequest

TRACING = "api.tracing"  # above this package, so it is named as text
TRACEPARENT = "traceparent"


class TracedTrack:
    """Costs nothing when the trace of the request is not recorded.

    Args:
        tracing: the replica's ``api.tracing.Tracing``.

    Attributes:
        times: for the engine to write into; None: nobody wants to know.
    """

    def __init__(self, tracing: Any, request: GenerationRequest, model_id: str) -> None:
        tags = {"track": request.request_id, "model": model_id, "audio_s": request.duration_s}
        tags |= {name: value for name, value in request.trace.items() if name != TRACEPARENT}
        self._span = tracing.begin("engine", request.trace.get(TRACEPARENT), "server", **tags)
        self.times = StageTimes() if self._span.is_recorded else None

    def end(self, outcome: str, error: str | None) -> None:
        """Tell the stages that it came to."""
        if (times := self.times) is not None:
            self._child("rows", times.added_at, times.joined_at)
            self._child("text encode", times.joined_at, times.encoded_at)
            self._child("decode", times.encoded_at, times.decoded_at, steps=times.steps)
            self._child("codec", times.first_codec_at, times.codec_until, pieces=times.pieces, busy_s=times.codec_s)
        self._span.end(error, outcome=outcome)

    def _child(self, name: str, start_s: float | None, end_s: float | None, **tags: float) -> None:
        if start_s is not None and end_s is not None:
            self._span.child(name, start_s, end_s, **tags)
