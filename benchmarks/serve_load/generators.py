"""Processes that send the load: each every n-th request of one schedule, all from the same moment on.

A process of their own each, so that neither drawing a progress line nor another generator's work makes one late.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from benchmarks.api.arrivals import open_loop
from benchmarks.serve_load.calls import Keys, Sender
from benchmarks.serve_load.outcome import Outcome
from benchmarks.serve_load.plan import Planned, Schedule
from benchmarks.serve_load.server import Server
from models.errors import TuttiError

START_TIMEOUT_S = 60.0
_AHEAD_S = 0.3  # between the last process being ready and the first moment of the schedule
_BATCH_S = 0.25  # outcomes are handed over so often: rarely enough to disturb nothing
_PULSE_S = 0.02
_PRIORITY = -10
_REPOSITORY = Path(__file__).parents[2]
_Process = subprocess.Popen[bytes]


class GeneratorError(TuttiError):
    """A process that sends the load has ended early. This is a bug, or the machine's memory was full."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the load goes."""

    url: str
    keys: Keys
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Sent:
    """A run.

    Attributes:
        outcomes: of every request, in the order of the schedule.
        pulse_s: how late the generators' event loops were, looked at fifty times a second: what they were late in
            reading, as the requests' lag is what they were late in sending.
        took_s: from the first moment of the schedule to the last answer.
    """

    outcomes: tuple[Outcome, ...]
    pulse_s: tuple[float, ...]
    took_s: float


Progress = Callable[[Sequence[Outcome], float], None]
"""Gets all outcomes so far, and the seconds since the start (below 0 before it)."""


def run(schedule: Schedule, target: Target, processes: int, progress: Progress | None = None) -> Sent:
    """Send a schedule, and wait for everything that it has begun.

    Raises:
        GeneratorError: one of the processes has died.
    """
    started: list[tuple[_Process, Connection]] = []
    try:
        for index in range(processes):
            process, here = _start()
            started.append((process, here))
            _told(process, here, (schedule.share(index, processes), target))
        sent = _gather(started, progress)
        assert len(sent.outcomes) == len(schedule.requests), "every request has an outcome"
        return sent
    finally:
        for process, here in started:
            here.close()
            process.terminate()
            process.wait()


def _start() -> tuple[_Process, Connection]:
    """A process that imports no more than it needs, and the line to it."""
    here, there = socket.socketpair()
    with there:
        command = [sys.executable, "-m", "benchmarks.serve_load.generators", str(there.fileno())]
        process = subprocess.Popen(command, cwd=_REPOSITORY, pass_fds=(there.fileno(),))
    return process, Connection(here.detach())


def _gather(started: Sequence[tuple[_Process, Connection]], progress: Progress | None) -> Sent:
    for process, here in started:
        _received(process, here, START_TIMEOUT_S)  # it is ready
    began = time.perf_counter() + _AHEAD_S
    for process, here in started:
        _told(process, here, began)
    outcomes: list[Outcome] = []
    pulse: list[float] = []
    left = {here: process for process, here in started}
    while left:
        for here in [each for each in wait(list(left), timeout=_BATCH_S) if isinstance(each, Connection)]:
            batch, ended = _received(left[here], here, 0)
            outcomes += batch
            if ended is not None:
                pulse += ended
                del left[here]
        if progress is not None:
            progress(outcomes, time.perf_counter() - began)
    outcomes.sort(key=lambda outcome: outcome.planned.number)
    return Sent(tuple(outcomes), tuple(pulse), time.perf_counter() - began)


def _told(process: _Process, here: Connection, what: object) -> None:
    try:
        here.send(what)
    except ConnectionError:
        raise GeneratorError(f"a generator ended early with exit code {process.wait()}") from None


def _received(process: _Process, here: Connection, timeout_s: float) -> tuple[list[Outcome], list[float] | None]:
    try:
        if here.poll(timeout_s):
            batch: tuple[list[Outcome], list[float] | None] = here.recv()
            return batch
    except (EOFError, ConnectionError):
        raise GeneratorError(f"a generator ended early with exit code {process.wait()}") from None
    raise GeneratorError(f"a generator was not ready within {timeout_s:g} s")


# ------------------------------------------------------------------------------------------- in the process of its own
def _generate(there: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which ends this one
    with suppress(PermissionError):  # root only: on a machine that is shared with the server, be on time all the same
        os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)
    planned, target = there.recv()
    asyncio.run(_Generator(there, planned, target).run())


class _Generator:
    def __init__(self, there: Connection, planned: Sequence[Planned], target: Target) -> None:
        self._there = there
        self._planned = planned
        self._server = Server(target.url)
        self._sender = Sender(self._server, target.keys, target.timeout_s)
        self._done: list[Outcome] = []
        self._pulse: list[float] = []

    async def run(self) -> None:
        self._there.send(([], None))
        began: float = await asyncio.to_thread(self._there.recv)
        others = [asyncio.create_task(each) for each in (self._beat(), self._hand_over())]
        await open_loop([each.at_s for each in self._planned], self._send, began)
        for other in others:
            other.cancel()
        self._server.close()
        self._there.send((self._done, self._pulse))

    async def _send(self, number: int, intended: float) -> None:
        outcome = await self._sender.send(self._planned[number], intended)
        self._done.append(outcome)  # looked up now: the list is another one whenever some have been handed over

    async def _hand_over(self) -> None:
        while True:
            await asyncio.sleep(_BATCH_S)
            if self._done:
                done, self._done = self._done, []
                self._there.send((done, None))

    async def _beat(self) -> None:
        while True:
            due = time.perf_counter() + _PULSE_S
            await asyncio.sleep(_PULSE_S)
            self._pulse.append(time.perf_counter() - due)


if __name__ == "__main__":
    _generate(Connection(int(sys.argv[1])))
