"""The worker as a Serve deployment: it takes no requests, it takes leases.

What it does is composed by a factory of ``api`` that is named, not imported, as the gateway's is: ``api`` is above
this package.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import aclosing
from typing import Any, cast

from ray.serve.handle import DeploymentHandle

from autoscaling.fairness import Places
from deployments.client import GeneratorClient, ServeState
from deployments.composing import composed
from models.catalog import ModelSpec
from models.types import AudioChunk, GenerationRequest

WORKER_FACTORY = "api.worker:create_worker"


class WorkerStoppedError(RuntimeError):
    """The worker's work has ended although nobody asked it to: Serve replaces the replica."""


class CountingClient(GeneratorClient):
    """Knows what it has sent and not heard of: the queue before the replicas is in the client, so only it can tell."""

    def __init__(self, handle: DeploymentHandle, state: ServeState | None = None) -> None:
        super().__init__(handle, state)
        self._unanswered_s: dict[object, float] = {}

    async def generate(self, request: GenerationRequest) -> AsyncIterator[AudioChunk]:
        call = object()
        self._unanswered_s[call] = request.duration_s
        answer = cast("Any", super().generate(request))
        del request
        try:
            async with aclosing(answer) as chunks:
                async for chunk in chunks:
                    self._unanswered_s.pop(call, None)
                    yield chunk
        finally:
            self._unanswered_s.pop(call, None)

    @property
    def unanswered_s(self) -> float:
        """Audio-seconds of the requests whose first piece has not come back yet."""
        return sum(self._unanswered_s.values())


class GenerationWorker:
    """Runs one worker for as long as the replica lives.

    Args:
        handles: model id → handle of its deployment.
        models: model id → what it is.
        slots: model id → tracks to have made at once, at most.
        per_replica: model id → what one replica takes; left out: always as many as there are slots.
    """

    def __init__(
        self,
        handles: dict[str, DeploymentHandle],
        models: dict[str, ModelSpec],
        slots: Mapping[str, int],
        per_replica: Mapping[str, Places] | None = None,
    ) -> None:
        state = ServeState()
        self._backends = {model_id: CountingClient(handle, state) for model_id, handle in handles.items()}
        self._worker: Any = composed(
            WORKER_FACTORY, "WORKER_SERVICE", self._backends, models, slots=slots, per_replica=per_replica
        )
        self._running: asyncio.Task[None] | None = None

    async def check_health(self) -> None:
        """Start the work: Serve asks once before the replica counts as started. Afterwards: is it still being done?

        Raises:
            WorkerStoppedError: it is not; the cause is what ended it.
        """
        if self._running is None:
            self._running = asyncio.create_task(self._worker.run())
        elif self._running.done():
            cause = None if self._running.cancelled() else self._running.exception()
            raise WorkerStoppedError(f"the worker has stopped: {cause!r}") from cause

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What waits, by model: ``api.generations.waiting`` says under which names."""
        sent_s = {model_id: backend.unanswered_s for model_id, backend in self._backends.items()}
        stats: dict[str, float] = self._worker.autoscaling_stats(sent_s)
        return stats

    def __del__(self) -> Awaitable[None] | None:
        """Serve calls this once when it stops the replica, and waits for what it returns: what runs ends, or is given
        back to the queue. Python calls it again at the end, when there is nothing left to wait for."""
        running, self._running = getattr(self, "_running", None), None
        return None if running is None else self._stop(running)

    async def _stop(self, running: asyncio.Task[None]) -> None:
        await self._worker.stop()
        await asyncio.wait([running])
