"""What the tests see of a running platform besides its HTTP: engine statistics, and what its processes hold."""

from __future__ import annotations

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


def has_torch(pid: int) -> bool:
    """Whether the process has torch's library mapped into its memory."""
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()
