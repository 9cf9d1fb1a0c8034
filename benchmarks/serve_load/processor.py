"""Processor time of a platform on this machine, process by process, from ``/proc``: where a second of audio goes."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from benchmarks.processes import Key, Process, below

EVERY_S: Final = 1.0
_RAY: Final = "ray::"


class ProcessorTime:
    """Of this process and all below it while the block runs. Empty where there is no ``/proc``.

    Looks once a second, so that a process that ends meanwhile counts for what it had used until then.
    """

    def __init__(self) -> None:
        self._before: dict[Key, Process] = {}
        self._last: dict[Key, Process] = {}
        self._ended = threading.Event()
        self._looking = threading.Thread(target=self._look_on, name="processor time", daemon=True)

    def __enter__(self) -> Self:
        self._before = below(os.getpid())
        self._last = dict(self._before)
        self._looking.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._looking.join()
        self._last |= below(os.getpid())

    def by_name(self) -> dict[str, float]:
        """Seconds of a core, the most first; processes of one name together."""
        spent: dict[str, float] = {}
        for key, process in self._last.items():
            before = self._before.get(key)
            more_s = process.cpu_s - (0.0 if before is None else before.cpu_s)
            name = name_of(process.command)
            spent[name] = spent.get(name, 0.0) + more_s
        most_first = sorted(spent.items(), key=lambda each: -each[1])
        return {name: round(seconds, 2) for name, seconds in most_first if seconds > 0}

    def _look_on(self) -> None:
        while not self._ended.wait(EVERY_S):
            self._last |= below(os.getpid())


def name_of(command: bytes) -> str:
    """Of ``/proc/PID/cmdline``: a Serve replica's deployment, Ray's title, a module, or the program."""
    words = [word.decode(errors="replace") for word in command.split(b"\0") if word]
    if not words:
        return "kernel"
    title = words[0].split()[0]
    if title.startswith(_RAY):  # ray::ServeReplica:tutti:musicgen-tiny.method
        return title.removeprefix(_RAY).split(".")[0].rpartition(":")[2]
    if "-m" in words[:-1]:
        return words[words.index("-m") + 1]
    return Path(title).name
