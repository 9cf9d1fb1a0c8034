"""The processes of this machine, from ``/proc``; where there is none, there are none."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_ENDED: Final = "Z"
"""State of a process that is over and whose parent has not looked yet."""

Key = tuple[int, str]
"""A process: its id, and when it started, since ids are given again."""


@dataclass(frozen=True, slots=True)
class Process:
    """
    Attributes:
        command: as in ``/proc/PID/cmdline``: words that end with a zero byte.
        cpu_s: seconds of a core that it has used.
    """

    parent: int
    command: bytes
    cpu_s: float

    @property
    def title(self) -> str:
        """Its command line; Ray names its workers in it."""
        return self.command.replace(b"\0", b" ").decode(errors="replace").strip()


def below(root: int) -> dict[Key, Process]:
    """All that it started, and what they started; itself is the first."""
    everyone = _everyone()
    children: dict[int, list[Key]] = {}
    for key, process in everyone.items():
        children.setdefault(process.parent, []).append(key)
    found: dict[Key, Process] = {}
    left = [key for key in everyone if key[0] == root]
    while left:
        key = left.pop()
        found[key] = everyone[key]
        left += children.get(key[0], [])
    return found


def descendants(root: int | None = None) -> dict[int, str]:
    """Process id → title of every process below this one, without it."""
    root = root or os.getpid()
    return {pid: process.title for (pid, _), process in below(root).items() if pid != root}


def _everyone() -> dict[Key, Process]:
    found: dict[Key, Process] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat, command = (folder / "stat").read_text(errors="replace"), (folder / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        # Behind the name, which may hold anything: state, parent, user and system time, start are fields 3, 4, 14, 15
        # and 22.
        fields = stat.rpartition(")")[2].split()
        if fields[0] != _ENDED:
            cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS
            found[int(folder.name), fields[19]] = Process(int(fields[1]), command, cpu_s)
    return found
