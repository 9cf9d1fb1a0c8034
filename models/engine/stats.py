"""What the engine counts: one collector that the engine writes to, one frozen snapshot that others read. No tensors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.engine.pacing import Pacer
    from models.engine.scheduler import Scheduler
    from models.engine.sequence import Row

STAGES = ("text_encode", "decode", "codec", "host")
# Weight of the newest step in the running mean: about the last 50 steps (one second of audio) count.
_NEWEST_WEIGHT = 0.04


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot. Times are seconds of wall clock in the stepping thread since the engine started.

    Attributes:
        steps: batched steps run.
        row_steps: rows summed over these steps.
        mean_rows_per_step: how well requests share steps.
        waiting, running: requests now.
        outstanding_row_steps: rows × steps accepted and not done yet; over the step rate this is time.
        step_seconds: time in steps in total; ``text_encode + decode + codec + host`` is its sum.
        mean_step_s: running mean of one step, recent steps count most.
        active_rows, paused_rows, free_rows: rows in the step, held by those who pause, held by nobody; ``max_rows`` in
            total.
        broken_steps: batched steps that raised and failed the requests in them.
        underruns: chunks that came after their listener's player had run out; ``stall_seconds`` is by how much, in sum.
        predicted_underruns: listeners whose next chunk will be late, as of the scheduler's latest choice.
        slack_min_s, slack_median_s: how long listeners' tracks may pause and still be in time with steps in real time,
            over those of the latest choice; 0 without any.
    """

    steps: int
    row_steps: int
    mean_rows_per_step: float
    max_rows: int
    active_rows: int
    paused_rows: int
    free_rows: int
    free_kv_positions: int
    waiting: int
    running: int
    outstanding_row_steps: int
    audio_seconds: float
    step_seconds: float
    mean_step_s: float
    text_encode: float
    decode: float
    codec: float
    host: float
    finished: int
    aborted: int
    failed: int
    refused: int
    broken_steps: int
    underruns: int
    stall_seconds: float
    predicted_underruns: int
    slack_min_s: float
    slack_median_s: float

    def as_dict(self) -> dict[str, int | float]:
        return asdict(self)


@dataclass(slots=True)
class StatsCollector:
    """Counters, written by the stepping thread only."""

    steps: int = 0
    row_steps: int = 0
    audio_seconds: float = 0.0
    step_seconds: float = 0.0
    mean_step_s: float = 0.0
    finished: int = 0
    aborted: int = 0
    failed: int = 0
    refused: int = 0
    broken_steps: int = 0
    underruns: int = 0
    stall_seconds: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage of the step, also when it raises."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stage_seconds[name] += time.perf_counter() - start

    @contextmanager
    def step(self) -> Iterator[None]:
        """Time a whole step; what no stage claims is the host's share."""
        start, claimed = time.perf_counter(), sum(self.stage_seconds.values())
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            self.stage_seconds["host"] += elapsed - (sum(self.stage_seconds.values()) - claimed)
            self.mean_step_s += (elapsed - self.mean_step_s) * (_NEWEST_WEIGHT if self.step_seconds else 1.0)
            self.step_seconds += elapsed

    def count_step(self, rows: int) -> None:
        """A batched step of so many rows was run."""
        self.steps += 1
        self.row_steps += rows

    def snapshot(self, line: Scheduler[Row], pacer: Pacer[Row], max_rows: int, free_kv_positions: int) -> EngineStats:
        """What was counted so far, and who is where now."""
        free_rows, paused_rows = line.free_rows, line.paused_rows
        return EngineStats(
            steps=self.steps,
            row_steps=self.row_steps,
            mean_rows_per_step=self.row_steps / self.steps if self.steps else 0.0,
            max_rows=max_rows,
            active_rows=max_rows - free_rows - paused_rows,
            paused_rows=paused_rows,
            free_rows=free_rows,
            free_kv_positions=free_kv_positions,
            waiting=line.num_waiting,
            running=line.num_running,
            outstanding_row_steps=line.outstanding_row_steps,
            audio_seconds=self.audio_seconds,
            step_seconds=self.step_seconds,
            mean_step_s=self.mean_step_s,
            finished=self.finished,
            aborted=self.aborted,
            failed=self.failed,
            refused=self.refused,
            broken_steps=self.broken_steps,
            underruns=self.underruns,
            stall_seconds=self.stall_seconds,
            predicted_underruns=pacer.predicted_underruns,
            slack_min_s=pacer.slack_min_s,
            slack_median_s=pacer.slack_median_s,
            **self.stage_seconds,
        )
