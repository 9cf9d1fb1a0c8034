"""What is broken while the load goes on: parts of the real platform, from outside, as accidents do it.

A fault is a context: broken inside, mended after. No code of the platform knows of any of them.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serve_load.plan import Mode
from tests.crash.cluster import Cluster

Break = Callable[[Cluster], AbstractAsyncContextManager[None]]
_CYCLE_S = 1.0
_AWAKE = 0.04
_LIVES_S = 3.0


@asynccontextmanager
async def killed_replica(cluster: Cluster) -> AsyncIterator[None]:
    """The model's replica dies; whatever Serve starts in its place lives three seconds, until it is mended."""

    async def kill() -> None:
        while True:
            if cluster.kill("replica") is None:
                await asyncio.sleep(0.1)  # a process that starts tells nobody
            else:
                await asyncio.sleep(_LIVES_S)

    async with _meanwhile(kill()):
        yield


@asynccontextmanager
async def slow_replica(cluster: Cluster) -> AsyncIterator[None]:
    """The model's replica gets a few hundredths of its time: stopped and continued once a second."""

    async def doze() -> None:
        while True:
            for pid in cluster.pids("replica"):
                _signal(pid, signal.SIGSTOP)
            await asyncio.sleep(_CYCLE_S * (1 - _AWAKE))
            for pid in cluster.pids("replica"):
                _signal(pid, signal.SIGCONT)
            await asyncio.sleep(_CYCLE_S * _AWAKE)

    try:
        async with _meanwhile(doze()):
            yield
    finally:
        for pid in cluster.pids("replica"):
            _signal(pid, signal.SIGCONT)


@asynccontextmanager
async def broken_storage(cluster: Cluster) -> AsyncIterator[None]:
    """The folder of the audio is gone and a file stands in its place: nothing can be stored, whoever writes."""
    folder = cluster.data / "audio"
    await asyncio.to_thread(_take_away, folder)
    try:
        yield
    finally:
        await asyncio.to_thread(_bring_back, folder)


def _take_away(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    folder.rename(f"{folder}-away")
    folder.touch()


def _bring_back(folder: Path) -> None:
    folder.unlink()
    Path(f"{folder}-away").rename(folder)


@asynccontextmanager
async def nothing(cluster: Cluster) -> AsyncIterator[None]:
    """Broken by the load alone."""
    yield


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the run.

    Attributes:
        sli: of the alert that has to fire, None: none may.
        tier: likewise.
        also: what else may fire meanwhile: alerts on causes.
        rate: requests a second on top of the load.
        length_s: seconds of audio of those.
        mode: of those.
    """

    name: str
    breaks: Break
    sli: str | None
    tier: str = "enterprise"
    also: tuple[str, ...] = ()
    rate: float = 0.0
    length_s: float = 0.0
    mode: Mode = "stream"


PHASES = {
    phase.name: phase
    for phase in (
        Phase("baseline", nothing, None),
        Phase("killed replica", killed_replica, "ttfa", also=("TuttiTargetDown", "TuttiEngineStalled")),
        Phase("slow replica", slow_replica, "ttfa", also=("TuttiEngineStalled", "TuttiBacklogBeyondPromise")),
        Phase("overload", nothing, "admission", also=("TuttiBacklogBeyondPromise",), rate=12.0, length_s=10.0),
        # Streams are heard although they cannot be kept: it is jobs that fail, and five must, or no alert has enough.
        Phase(
            "broken storage",
            broken_storage,
            "success",
            also=("TuttiBacklogBeyondPromise",),
            rate=2.0,
            length_s=2.0,
            mode="async",
        ),
    )
}


@asynccontextmanager
async def _meanwhile(work: object) -> AsyncIterator[None]:
    assert asyncio.iscoroutine(work)
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it has ended meanwhile
