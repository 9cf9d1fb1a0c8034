"""The replica of one model size: an AsyncEngine behind Serve's contract.

torch is imported inside the replica only, so that whoever builds or routes (build task, controller, ingress)
stays small. The class is plain: deployments.app makes the Serve deployments of it.
"""

from __future__ import annotations

import gc
import importlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from ray import serve

from deployments.engine_metrics import EXPOSURE, EngineMeter, StartTimes, expose
from deployments.tracing import TRACEPARENT, TRACING, TracedTrack
from models.engine_config import EngineConfig
from models.errors import EngineOverloadedError, TuttiError
from models.read_ahead import read_ahead
from models.types import AudioChunk, GenerationRequest

if TYPE_CHECKING:
    from models.checkpoint_files import CheckpointFiles
    from models.engine.async_engine import AsyncEngine

LOGS = "api.logs"  # above this package, so it is named as text
TRACING_SETTINGS = "api.tracing_settings"
_REPLACED_IN_S = 5.0


class Backlog:
    """Audio-seconds that were admitted and not yet made: what a replica still owes."""

    def __init__(self) -> None:
        self._owed_s: dict[str, float] = {}
        self._begun: set[str] = set()
        # Not the requests themselves: they may have sound, which is let go of as soon as it is encoded.
        self._prompts: dict[str, str] = {}
        self._ids: dict[str, dict[str, str]] = {}

    def admit(self, request: GenerationRequest) -> None:
        self._owed_s[request.request_id] = request.duration_s
        self._prompts[request.request_id] = request.prompt
        self._ids[request.request_id] = log_ids(request)

    def deliver(self, track: str, duration_s: float) -> None:
        self._owed_s[track] -= duration_s
        self._begun.add(track)

    def forget(self, track: str) -> None:
        self._owed_s.pop(track, None)
        self._begun.discard(track)
        self._prompts.pop(track, None)
        self._ids.pop(track, None)

    def prompts(self) -> list[str]:
        """Of the requests in flight, so that no log line shows one."""
        return list(self._prompts.values())

    def ids(self, track: str) -> dict[str, str]:
        """What a track in flight belongs to, so that the engine's lines about it say so."""
        return self._ids.get(track, {})

    @property
    def seconds(self) -> float:
        return max(0.0, sum(self._owed_s.values()))

    @property
    def streams(self) -> int:
        """Requests of which a piece was delivered: the others wait, and whoever sent them counts them."""
        return len(self._begun)

    @property
    def running_s(self) -> float:
        """What is owed of those."""
        return max(0.0, sum(self._owed_s[request_id] for request_id in self._begun))


def log_ids(request: GenerationRequest) -> dict[str, str]:
    """Every line about a track has these."""
    ids = {name: value for name, value in request.trace.items() if name != TRACEPARENT}
    trace_id = importlib.import_module(TRACING).trace_id_in(request.trace.get(TRACEPARENT))
    return {"track": request.request_id, **ids, **({} if trace_id is None else {"trace_id": trace_id})}


def _check_known(request: GenerationRequest) -> None:
    """Better late than something else. It is refused as a full queue is, so that it is tried again, as often as it
    takes: while a platform is updated this replica is soon replaced, or has newer ones beside it."""
    if request.unknown:
        message = f"this replica is of an older version, which does not know {', '.join(request.unknown)}"
        raise EngineOverloadedError(message, _REPLACED_IN_S)


class _LogEntry:
    """What the log says of one track: its ids, how it ended, what it took."""

    def __init__(self, log: Any, request: GenerationRequest) -> None:
        # Bound, not in a context variable: an async generator may be resumed and closed in different contexts.
        self._log = log.bind(**log_ids(request))
        self._began_at = time.perf_counter()
        self._made_s = 0.0
        self.outcome = "closed"
        self._log.info("track_started", duration_s=request.duration_s)

    @property
    def error(self) -> str | None:
        """The name of what went wrong, if something did."""
        return None if self.outcome in ("completed", "closed") else self.outcome

    def deliver(self, chunk: AudioChunk) -> None:
        self._made_s += chunk.duration_s
        if chunk.is_last:
            self.outcome = "completed"

    def write(self) -> None:
        spent_ms = 1000 * (time.perf_counter() - self._began_at)
        audio_s, duration_ms = round(self._made_s, 3), round(spent_ms, 1)
        self._log.info("track_ended", outcome=self.outcome, audio_s=audio_s, duration_ms=duration_ms)


class MusicGenerator:
    """One model, one engine, many streams.

    Args:
        model_id: for messages.
        checkpoint: its folder, or its files where they lie in several.
        engine: keyword arguments of EngineConfig.

    Raises:
        CheckpointError: the checkpoint cannot be loaded; Serve then reports the deployment as failed.
    """

    def __init__(self, model_id: str, checkpoint: str | CheckpointFiles, engine: dict[str, Any]) -> None:
        start = StartTimes()
        read_ahead(checkpoint)  # beside the imports, which need the processor
        from models.engine.async_engine import AsyncEngine

        self._model_id = model_id
        self._backlog = Backlog()
        logs, tracing, wish = (importlib.import_module(name) for name in (LOGS, TRACING, TRACING_SETTINGS))
        importlib.import_module(EXPOSURE)  # now, so that it is no unnamed part of the start
        self._log: Any = logs.engine_logger(self._backlog.prompts, about=self._backlog.ids).bind(model=model_id)
        self._tracing: Any = tracing.Tracing.start(wish.TracingSettings(), "tutti-engine")
        start.done("import")
        # Whoever stores a track stores its codes as well: from them another one goes on without a loss.
        settings = EngineConfig(**{**engine, "return_codes": True})
        self._engine: AsyncEngine = AsyncEngine.from_path(checkpoint, settings, start.done)
        # A full collection would look at all of torch while every stream waits: about half a second on two cores.
        gc.collect()
        gc.freeze()
        start.done("engine")
        self.start = start
        self._metrics: Any = expose(model_id, self._engine.stats, start.stages)
        # Of its own: each reader sees what grew since it looked.
        self._meter = EngineMeter(self._engine.stats, start.stages)
        stages = {f"{name}_s": round(seconds, 3) for name, seconds in start.stages.items()}
        self._log.info("replica_started", start_s=round(start.total_s, 3), **stages)

    async def generate(self, request: GenerationRequest) -> AsyncIterator[AudioChunk]:
        """Stream one track; closing the iterator frees its rows within one step.

        Raises:
            EngineOverloadedError: whoever asks is of a newer version and wants what this replica does not know.
            TuttiError: as the engine's.
        """
        entry = _LogEntry(self._log, request)
        traced = TracedTrack(self._tracing, request, self._model_id)
        track = request.request_id
        self._backlog.admit(request)
        try:
            _check_known(request)
            made = self._engine.generate(request, traced.times)
            del request  # with its sound, which the engine lets go of as soon as it is encoded
            async with aclosing(made) as chunks:
                async for chunk in chunks:
                    self._backlog.deliver(track, chunk.duration_s)
                    entry.deliver(chunk)
                    yield chunk
        except TuttiError as error:
            entry.outcome = type(error).__name__
            raise
        finally:
            self._backlog.forget(track)
            traced.end(entry.outcome, entry.error)
            entry.write()

    def check_health(self) -> None:
        """Raises EngineDeadError when the engine cannot go on: Serve then replaces this replica."""
        self._engine.check_health()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What the autoscaler looks at, about once a second; a coroutine, since Serve calls a plain method in a thread,
        beside which requests come and go.

        ``backlog_audio_s`` is all that is owed, ``running_audio_s`` that of the ``streams`` which have begun;
        ``capacity_audio_s_per_s`` as measured so far (0: not yet); ``startup_s`` what the start took, but for Ray's
        part.
        """
        self._meter.read()
        return {
            "backlog_audio_s": self._backlog.seconds,
            "running_audio_s": self._backlog.running_s,
            "streams": float(self._backlog.streams),
            "active_rows": float(self._engine.stats().active_rows),
            "capacity_audio_s_per_s": self._meter.capacity,
            "startup_s": self.start.total_s,
        }

    def stats(self) -> dict[str, Any]:
        """The engine's statistics, and which process they come from."""
        context = serve.get_replica_context()
        return {
            "model": self._model_id,
            "replica": context.replica_id.unique_id,
            "pid": os.getpid(),
            "backlog_audio_s": self._backlog.seconds,
            **self._engine.stats().as_dict(),
        }

    def __del__(self) -> None:
        """Serve calls this once when it stops the replica."""
        engine = getattr(self, "_engine", None)
        if engine is not None:
            engine.shutdown()
            if (metrics := getattr(self, "_metrics", None)) is not None:
                metrics.close()
            self._tracing.close()
