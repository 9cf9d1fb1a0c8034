"""What the tests see of a running platform besides its HTTP: engine statistics and processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from ray import serve

DEADLINE_S = 60.0


class Probe:
    """Looks at the tiny model's replica through a Serve handle of the test's own process."""

    def stats(self) -> dict[str, Any]:
        handle = serve.get_deployment_handle("musicgen-tiny", "tutti")
        return cast(dict[str, Any], handle.stats.remote().result(timeout_s=DEADLINE_S))

    def wait_for(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first statistics that fulfil the condition; each look is a round trip to the replica."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            stats = self.stats()
            if condition(stats):
                return stats
            assert time.monotonic() < deadline, f"not reached within {DEADLINE_S:g} s: {stats}"

    def wait_idle(self) -> dict[str, Any]:
        """Nothing is being made, and nothing that was made is still on its way to whoever asked for it."""
        return self.wait_for(
            lambda stats: stats["active_rows"] == stats["waiting"] == 0 and stats["backlog_audio_s"] == 0
        )


def descendants(pid: int | None = None) -> dict[int, str]:
    """Process id → title of every process below this one (Ray names its workers in the title)."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue  # it ended while we looked
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    found = {pid or os.getpid()}
    while grown := {child for child, parent in parents.items() if parent in found} - found:
        found |= grown
    return {child: _title(child) for child in found - {pid or os.getpid()}}


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def has_torch(pid: int) -> bool:
    """Whether the process has torch's library mapped into its memory."""
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()
