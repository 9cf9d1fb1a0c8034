"""What is under way, by model: one query a second, for the autoscaler and for the gauges of the backlog.

Work that its own account's limit holds back is no reason for another replica: of what an account has queued the
autoscaler counts only the part that it may have made now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, func, or_, select
from sqlalchemy.exc import SQLAlchemyError

from api.clock import Clock
from api.limits.tiers import Tiers
from api.store.database import Database
from api.store.errors import StoreError
from api.store.schema import generations

EVERY_S: Final = 1.0
Owed = Mapping[tuple[str, str, str], float]
_table = generations.c
_UNDER_WAY: Final = (
    select(
        _table.model_id,
        _table.account_id,
        _table.tier,
        _table.state,
        _table.mode,
        func.sum(_table.duration_s * _table.num_tracks).label("audio_s"),
        func.count().label("number"),
        func.min(_table.deadline_at).label("deadline_at"),
    )
    .where(
        _table.state.in_(("queued", "running", "cancelling")),
        or_(_table.state != "queued", _table.expires_at > bindparam("now")),
    )
    .group_by(_table.model_id, _table.account_id, _table.tier, _table.state, _table.mode)
)


@dataclass(slots=True)
class Waiting:
    """Of one model.

    Attributes:
        queued: generations that could run if there were room.
        stream_s, job_s: audio-seconds of them, that somebody listens to and that nobody does.
        job_due_s: seconds until the first of these jobs is due.
        running_stream_s, running_job_s, running_job_due_s: the same of what workers hold.
    """

    queued: float = 0.0
    stream_s: float = 0.0
    job_s: float = 0.0
    job_due_s: float | None = None
    running_stream_s: float = 0.0
    running_job_s: float = 0.0
    running_job_due_s: float | None = None

    def add_queued(self, row: Any, part: float, now: datetime) -> None:
        self.queued += part * row.number
        if row.mode == "stream":
            self.stream_s += part * row.audio_s
        else:
            self.job_s += part * row.audio_s
            self.job_due_s = _earlier(self.job_due_s, row.deadline_at, now)

    def add_running(self, row: Any, now: datetime) -> None:
        if row.mode == "stream":
            self.running_stream_s += row.audio_s
        else:
            self.running_job_s += row.audio_s
            self.running_job_due_s = _earlier(self.running_job_due_s, row.deadline_at, now)

    def stats(self, sent_s: float) -> dict[str, float]:
        """
        Args:
            sent_s: audio-seconds that this worker has sent and not heard of; SQL says how much of what is held is
                listened to, and so of this.
        """
        held_s = self.running_stream_s + self.running_job_s
        sent_job_s = sent_s * self.running_job_s / held_s if held_s > 0 else 0.0
        return {
            "queued": self.queued,
            "stream_s": self.stream_s,
            "job_s": self.job_s,
            "job_due_s": self.job_due_s or 0.0,
            "sent_stream_s": sent_s - sent_job_s,
            "sent_job_s": sent_job_s,
            "sent_job_due_s": self.running_job_due_s or 0.0,
        }


class WaitingWork:
    """
    Args:
        tiers: how many generations an account may have made at a time.
        show: told at every look how many seconds of audio are owed, by model, tier, and queued or running.
    """

    def __init__(
        self, db: Database, tiers: Tiers, clock: Clock, show: Callable[[Owed], None] = lambda _owed: None
    ) -> None:
        self._db = db
        self._limits = {tier: rule.running for tier, rule in tiers.rules.items()}
        self._clock = clock
        self._show = show
        self._found: Mapping[str, Waiting] = {}
        self._looked_at: datetime | None = None

    async def run(self, every_s: float = EVERY_S) -> None:
        """Until cancelled; while the database is away what was found grows old: the autoscaler holds, gauges stay."""
        while True:
            with suppress(StoreError, SQLAlchemyError, OSError):  # the workers' own lines tell of it
                await self.look()
            await asyncio.sleep(every_s)

    async def look(self) -> None:
        now = self._clock()
        async with self._db.read() as conn:
            rows = (await conn.execute(_UNDER_WAY, {"now": now})).all()
        queued, active = _by_account(rows, queued=True), _by_account(rows, queued=False)
        found: dict[str, Waiting] = {}
        for row in rows:
            waiting = found.setdefault(row.model_id, Waiting())
            if row.state == "queued":
                limit = self._limits.get(row.tier, queued[row.account_id] + active.get(row.account_id, 0))
                free = max(0, limit - active.get(row.account_id, 0))
                waiting.add_queued(row, min(1.0, free / queued[row.account_id]), now)
            elif row.state == "running":
                waiting.add_running(row, now)
        self._found, self._looked_at = found, now
        self._show(_owed(rows))

    def stats(self, sent_s: Mapping[str, float]) -> dict[str, float]:
        """``<model>:<name>`` for each name of ``Waiting.stats``, and ``looked_s_ago``; empty before the first look.

        Args:
            sent_s: model → audio-seconds that were sent and whose first piece has not come back.
        """
        if self._looked_at is None:
            return {}
        stats = {"looked_s_ago": max(0.0, (self._clock() - self._looked_at).total_seconds())}
        for model, sent in sent_s.items():
            waiting = self._found.get(model, Waiting())
            stats |= {f"{model}:{name}": float(value) for name, value in waiting.stats(sent).items()}
        return stats


def _owed(rows: Any) -> Owed:
    owed: dict[tuple[str, str, str], float] = {}
    for row in rows:
        series = (row.model_id, row.tier, "queued" if row.state == "queued" else "running")
        owed[series] = owed.get(series, 0.0) + float(row.audio_s)
    return owed


def _by_account(rows: Any, *, queued: bool) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for row in rows:
        if (row.state == "queued") == queued:
            numbers[row.account_id] = numbers.get(row.account_id, 0) + int(row.number)
    return numbers


def _earlier(due_s: float | None, deadline_at: datetime, now: datetime) -> float:
    left_s = (deadline_at - now).total_seconds()
    return left_s if due_s is None else min(due_s, left_s)
