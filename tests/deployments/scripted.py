"""A replica that follows a script, for Serve's in-process mode. Importable, so that Serve need not pickle its event."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from typing import Any

from models.errors import InvalidRequestError
from models.types import AudioChunk, GenerationRequest

TOTAL = 4
CLOSED = threading.Event()  # set by the replica, whose event loop runs in another thread


def piece(index: int) -> AudioChunk:
    return AudioChunk(index, index, 1, 32000, bytes(4), TOTAL, is_last=index == TOTAL - 1)


class Replica:
    """Plays what the prompt says, and tells the test when a stream ended or was closed."""

    async def generate(self, request: GenerationRequest) -> AsyncIterator[AudioChunk]:
        try:
            for index in range(TOTAL):
                if index == 2 and request.prompt == "fail":
                    raise InvalidRequestError("no such key", param="key")
                if index == 2 and request.prompt == "bug":
                    raise ZeroDivisionError
                if index == 3 and request.prompt == "cut":
                    return
                if index == 1 and request.prompt == "hang":
                    await asyncio.Event().wait()
                yield piece(index)
        finally:
            CLOSED.set()


class ScriptedWorker:
    """Stands where ``api.worker`` puts the real one: runs until it is stopped, or until its script breaks it."""

    def __init__(
        self, backends: Mapping[str, Any], models: Mapping[str, Any], slots: Mapping[str, int], per_replica: Any
    ) -> None:
        self.backends, self.models, self.slots, self.per_replica = backends, models, slots, per_replica
        self.started = asyncio.Event()
        self.ended = False
        self._stopped = asyncio.Event()
        self.breaks: Exception | None = None

    async def run(self) -> None:
        self.started.set()
        await self._stopped.wait()
        if self.breaks is not None:
            raise self.breaks
        self.ended = True

    async def stop(self) -> None:
        self._stopped.set()


def create_worker(
    backends: Mapping[str, Any],
    models: Mapping[str, Any],
    settings: Any,
    *,
    slots: Mapping[str, int],
    per_replica: Any,
    log: Any,
) -> ScriptedWorker:
    log.info("composed", data_dir=str(settings.data_dir))
    return ScriptedWorker(backends, models, slots, per_replica)


def create_app(backends: Mapping[str, Any], models: Mapping[str, Any], settings: Any, *, log: Any) -> str:
    """Stands where ``api.app`` puts the application."""
    log.info("composed", data_dir=str(settings.data_dir))
    return "application"
