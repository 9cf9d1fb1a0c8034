"""What is seen of the running platform: its replicas' processes, and what its log says of tracks and decisions."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.processes import descendants
from benchmarks.simulator_check.quota import CpuQuota, QuotaError

_EVERY_S = 0.2
_REPLICA = "ServeReplica:tutti:musicgen-"
_SESSION = re.compile(r"/tmp/ray/session_\d[-\w]+")


@dataclass(frozen=True, slots=True)
class Track:
    """One that a replica made, in seconds of ``time.time``."""

    replica: str
    began_at: float
    ended_at: float
    audio_s: float


@dataclass(frozen=True, slots=True)
class Change:
    """A decision of the autoscaler to have another number of replicas."""

    at: float
    before: int
    replicas: int
    reason: str


@dataclass(slots=True)
class Watch:
    """When which replica's process was there, in seconds of ``time.time``; looked at five times a second.

    Attributes:
        quota: of each replica, from its first track on: what a start takes is not shared out.
        seen: process → first and last time.
        session: Ray's folder.
        failed: why it could not go on looking.
    """

    quota: CpuQuota = field(default_factory=lambda: CpuQuota(0))
    seen: dict[int, list[float]] = field(default_factory=dict)
    session: Path | None = None
    failed: QuotaError | None = None
    _confined: set[int] = field(default_factory=set)

    def look(self) -> None:
        now = time.time()
        titles = descendants()
        for pid, title in titles.items():
            if _REPLICA in title:
                self.seen.setdefault(pid, [now, now])[1] = now
                if pid not in self._confined and self._plays(pid):
                    self.quota.confine(pid)
                    self._confined.add(pid)
            if self.session is None and (found := _SESSION.search(title)):
                self.session = Path(found.group())

    def _plays(self, pid: int) -> bool:
        """Has its log a track?"""
        logs = self.session.glob(f"logs/worker-*-{pid}.err") if self.session is not None else ()
        return any('"event": "track_started"' in _read(path) for path in logs)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """In a thread of its own, until the block ends."""
        over = threading.Event()

        def look() -> None:
            try:
                while not over.wait(_EVERY_S):
                    self.look()
            except QuotaError as error:
                self.failed = error

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            if self.failed is not None:
                raise self.failed


def replica_s(watch: Watch, changes: Sequence[Change], began: float, ended: float) -> float:
    """Seconds for which replicas existed between two moments, from when they were asked for."""
    asked = [change.at for change in changes if change.replicas > change.before]
    total = 0.0
    for first, last in watch.seen.values():
        # Of the decisions before its process appeared, the last one is what it is there for.
        since = max((at for at in asked if at <= first), default=first) if first > began else began
        total += max(0.0, min(last, ended) - since)
    return total


def tracks(logs: Path) -> list[Track]:
    """All that have ended, by when they began."""
    found: list[Track] = []
    for path in logs.glob("worker-*.err"):
        began: dict[str, float] = {}
        for line in _lines(path, "track_"):
            if line["event"] == "track_started":
                began[line["track"]] = _at(line)
            elif line["event"] == "track_ended" and line["track"] in began:
                found.append(Track(path.stem, began.pop(line["track"]), _at(line), float(line["audio_s"])))
    return sorted(found, key=lambda track: track.began_at)


def changes(logs: Path) -> list[Change]:
    """Of the number of replicas."""
    lines = [line for path in logs.glob("worker-*.err") for line in _lines(path, "autoscaler_decided")]
    found = [
        Change(_at(line), int(line["replicas_before"]), int(line["replicas"]), str(line["reason"]))
        for line in lines
        if line["replicas_before"] not in (None, line["replicas"])
    ]
    return sorted(found, key=lambda change: change.at)


def _lines(path: Path, event: str) -> Iterator[Mapping[str, Any]]:
    for text in path.read_text(errors="replace").splitlines():
        if text.startswith("{") and f'"event": "{event}' in text:
            yield json.loads(text)


def _at(line: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()


def _read(path: Path) -> str:
    """Empty if it is gone."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
