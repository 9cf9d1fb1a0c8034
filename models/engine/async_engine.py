"""The engine behind asyncio: one thread steps, coroutines hand requests in and take chunks out.

    generate() ──command──►  inbox  ──►  stepping thread: commands, then one step  ──call_soon_threadsafe──►  queue

Only the stepping thread touches the engine. It takes all commands before every step, so closing a stream frees its
rows within one step. With nothing to do it sleeps on a condition. If it dies, every stream and the health check say so.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from models.checkpoint_files import CheckpointFiles
from models.engine.engine import Engine
from models.engine.loader import Told, load_model, nobody
from models.engine.separations import Separations
from models.engine.stage_times import StageTimes
from models.engine.stats import EngineStats
from models.engine_config import EngineConfig
from models.errors import EngineDeadError, TuttiError
from models.types import AudioChunk, GenerationRequest

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Stream:
    """A coroutine that waits for one request's news."""

    request: GenerationRequest
    loop: asyncio.AbstractEventLoop
    times: StageTimes | None = None
    news: asyncio.Queue[AudioChunk | TuttiError] = field(default_factory=asyncio.Queue)

    def send(self, item: AudioChunk | TuttiError) -> None:
        """From any thread."""
        try:
            self.loop.call_soon_threadsafe(self.news.put_nowait, item)
        except RuntimeError:  # its event loop is closed: nobody is left to be told
            logger.warning("request %s: its event loop is gone", self.request.request_id)


class AsyncEngine:
    """One engine and the thread that steps it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._separations = Separations.of(engine.model, engine.config)
        self._wake = threading.Condition()
        self._inbox: list[Callable[[], None]] = []  # guarded by _wake
        self._stopping = False  # guarded by _wake
        self._cause_of_death: str | None = None  # guarded by _wake
        self._open: set[_Stream] = set()  # everyone to be told of a death; guarded by _wake
        self._streams: dict[str, _Stream] = {}  # whom the engine's news go to; of the stepping thread
        self._stats = engine.stats()  # replaced as a whole
        self._thread = threading.Thread(target=self._run, name="tutti-engine", daemon=True)
        self._thread.start()

    @classmethod
    def from_path(cls, path: str | Path | CheckpointFiles, config: EngineConfig, told: Told = nobody) -> AsyncEngine:
        """Load a checkpoint and start stepping.

        Args:
            told: of every part that is there, for whoever measures a start.

        Raises:
            CheckpointError: naming what is wrong with it.
        """
        return cls(Engine(load_model(path, config, told), config))

    async def generate(self, request: GenerationRequest, times: StageTimes | None = None) -> AsyncGenerator[AudioChunk]:
        """Yield the track piece by piece, the last chunk marked; closing the iterator aborts within one step.

        Args:
            times: written down there, if somebody wants to know; clock: ``time.perf_counter``.

        Raises:
            InvalidRequestError: before anything is queued.
            CheckpointError: there is sound to go on from, and the weights that would encode it are broken.
            EngineOverloadedError: the line is full.
            GenerationFailedError: this request failed alone.
            EngineDeadError: the engine can not go on.
        """
        self._engine.check_request(request)
        self._separations.check(request)
        if request.has_sound:
            request = await self._separations.separated(request)
            request = await asyncio.to_thread(self._engine.encoded, request)
        stream = _Stream(request, asyncio.get_running_loop(), times)
        self._enter(stream)
        try:
            while True:
                item = await stream.news.get()
                if isinstance(item, TuttiError):
                    raise item
                yield item
                if item.is_last:
                    return
        finally:
            self._leave(stream)

    def check_health(self) -> None:
        """
        Raises:
            EngineDeadError: the engine has stopped; start another.
        """
        with self._wake:
            self._check_alive()

    def stats(self) -> EngineStats:
        """The counters after the latest step; also after the engine's death."""
        return self._stats

    def shutdown(self, timeout_s: float = 30.0) -> None:
        """Stop after the step in hand; streams still open get an EngineDeadError. Calling it twice is fine."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._separations.shutdown()
        self._thread.join(timeout_s)

    # ------------------------------------------------------------------------------------------- from coroutines

    def _enter(self, stream: _Stream) -> None:
        with self._wake:
            self._check_alive()
            self._open.add(stream)
            self._inbox.append(lambda: self._add(stream))
            self._wake.notify()

    def _leave(self, stream: _Stream) -> None:
        with self._wake:
            self._open.discard(stream)
            self._inbox.append(lambda: self._abort(stream))
            self._wake.notify()

    def _check_alive(self) -> None:
        if self._cause_of_death is not None:
            raise EngineDeadError(self._cause_of_death)

    # --------------------------------------------------------------------------------------- the stepping thread

    def _run(self) -> None:
        cause = "the engine was shut down"
        try:
            self._engine.prepare_thread()
            while self._turn():
                pass
        except BaseException as error:
            logger.exception("the engine's thread died")
            cause = f"the engine died: {type(error).__name__}: {error}"
        finally:
            self._die(cause)

    def _turn(self) -> bool:
        """Wait for something to do and do it: commands, then one step. False when told to stop."""
        with self._wake:
            self._wake.wait_for(lambda: self._stopping or self._inbox or self._engine.has_work)
            if self._stopping:
                return False
            commands, self._inbox = self._inbox, []
        for command in commands:
            command()
        if self._engine.has_work:
            self._step()
        self._stats = self._engine.stats()
        return True

    def _step(self) -> None:
        for output in self._engine.step():
            stream = self._streams[output.request_id]
            stream.send(output.news)
            if output.is_end:
                del self._streams[output.request_id]

    def _add(self, stream: _Stream) -> None:
        try:
            self._engine.add(stream.request, stream.times)
        except TuttiError as error:
            stream.send(error)
        else:
            self._streams[stream.request.request_id] = stream

    def _abort(self, stream: _Stream) -> None:
        # Another stream may have taken the id since: then this one is done already.
        if self._streams.get(stream.request.request_id) is stream:
            del self._streams[stream.request.request_id]
            self._engine.abort(stream.request.request_id)

    def _die(self, cause: str) -> None:
        """Tell everyone, also those whose request was not looked at yet; whoever comes later is told at the door."""
        with self._wake:
            self._cause_of_death = cause
            streams = list(self._open)
        for stream in streams:
            stream.send(EngineDeadError(cause))
