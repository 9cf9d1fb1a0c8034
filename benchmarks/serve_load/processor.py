"""Processor time of a platform on this machine, process by process, from ``/proc``: where a second of audio goes."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

EVERY_S: Final = 1.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_RAY: Final = "ray::"

_Key = tuple[int, str]
"""A process: its id, and when it started, since ids are given again."""


@dataclass(frozen=True, slots=True)
class _Seen:
    parent: int
    name: str
    cpu_s: float


class ProcessorTime:
    """Of this process and all below it while the block runs. Empty where there is no ``/proc``.

    Looks once a second, so that a process that ends meanwhile counts for what it had used until then.
    """

    def __init__(self) -> None:
        self._before: dict[_Key, _Seen] = {}
        self._last: dict[_Key, _Seen] = {}
        self._ended = threading.Event()
        self._looking = threading.Thread(target=self._look_on, name="processor time", daemon=True)

    def __enter__(self) -> Self:
        self._before = _below(os.getpid())
        self._last = dict(self._before)
        self._looking.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._looking.join()
        self._last |= _below(os.getpid())

    def by_name(self) -> dict[str, float]:
        """Seconds of a core, the most first; processes of one name together."""
        spent: dict[str, float] = {}
        for key, seen in self._last.items():
            before = self._before.get(key)
            more_s = seen.cpu_s - (0.0 if before is None else before.cpu_s)
            spent[seen.name] = spent.get(seen.name, 0.0) + more_s
        most_first = sorted(spent.items(), key=lambda each: -each[1])
        return {name: round(seconds, 2) for name, seconds in most_first if seconds > 0}

    def _look_on(self) -> None:
        while not self._ended.wait(EVERY_S):
            self._last |= _below(os.getpid())


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


def _below(root: int) -> dict[_Key, _Seen]:
    everyone = _everyone()
    children: dict[int, list[_Key]] = {}
    for key, seen in everyone.items():
        children.setdefault(seen.parent, []).append(key)
    found: dict[_Key, _Seen] = {}
    left = [key for key in everyone if key[0] == root]
    while left:
        key = left.pop()
        found[key] = everyone[key]
        left += children.get(key[0], [])
    return found


def _everyone() -> dict[_Key, _Seen]:
    found: dict[_Key, _Seen] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat, command = (folder / "stat").read_text(errors="replace"), (folder / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        # Behind the name, which may hold anything: parent, user and system time, start are fields 4, 14, 15 and 22.
        fields = stat.rpartition(")")[2].split()
        cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS
        found[int(folder.name), fields[19]] = _Seen(int(fields[1]), name_of(command), cpu_s)
    return found
