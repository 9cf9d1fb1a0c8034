"""A run of parts: each has its own time and its own failure, and what is done is kept at once."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_TRACEBACK_LINES = 12


@dataclass
class Run:
    """
    Attributes:
        file: where the result is written after every part.
        budget_s: after which no further part is begun.
        result: by part; ``errors`` has the ends of the tracebacks, ``skipped`` what there was no time for.
    """

    file: Path
    budget_s: float
    result: dict[str, Any] = field(default_factory=lambda: {"errors": {}, "skipped": [], "seconds": {}})
    _begin: float = field(default_factory=time.perf_counter)

    @property
    def left_s(self) -> float:
        return self.budget_s - (time.perf_counter() - self._begin)

    def part(self, name: str, needs_s: float, make: Callable[[], Any]) -> None:
        """Do one part, if the time that it needs is left; its failure is noted and ends nothing else."""
        if self.left_s < needs_s:
            self.result["skipped"].append(name)
            print(f"{name}: skipped, {self.left_s:.0f} s are left", flush=True)
            return
        begin = time.perf_counter()
        try:
            self.result[name] = make()
            print(f"{name}: {json.dumps(self.result[name], default=str)}", flush=True)
        except Exception:  # noqa: BLE001 one failure must not lose the rest
            tail = traceback.format_exc().strip().splitlines()[-_TRACEBACK_LINES:]
            self.result["errors"][name] = tail
            print(f"{name}: FAILED: {tail[-1]}", flush=True)
        self.result["seconds"][name] = round(time.perf_counter() - begin, 2)
        self.save()

    def save(self) -> None:
        self.file.write_text(json.dumps(self.result, indent=1, default=str) + "\n", encoding="utf-8")
