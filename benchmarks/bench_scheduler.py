"""How long the scheduler thinks: plain Python over the real KV cache's regions, no tensors moved.

Extra info: ``step_share``, the part of a 20 ms step (real time) that one call takes.
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from models.config import DecoderConfig
from models.engine.scheduler import Scheduler
from models.engine.sequence import Sequence
from models.musicgen.kv_cache import KVCache
from models.musicgen.rows import RowHandle
from models.types import GenerationRequest, SamplingParams

ROWS = [1, 2, 8, 16, 32]
FRAMES, DELAY = 1500, 3
REAL_TIME_STEP_S = 0.02
PIECE_S = 0.3  # of each measurement
# One narrow layer: regions are accounted for in the same way at any width.
CONFIG = DecoderConfig(
    hidden_size=4,
    num_layers=1,
    num_heads=1,
    ffn_dim=4,
    num_codebooks=4,
    vocab_size=16,
    audio_channels=1,
    text_hidden_size=4,
)


def sequence(name: int, rows: int = 2, frames: int = FRAMES) -> Sequence[RowHandle]:
    sampling = SamplingParams(guidance=3.0 if rows == 2 else 1.0)
    return Sequence(GenerationRequest(str(name), "piano", 30.0, sampling=sampling), frames, DELAY)


def scheduler_of(rows: int, waiting: int = 0) -> Scheduler[RowHandle]:
    """A full house of guided requests (one unguided for a single row), and a line before its door."""
    cache = KVCache(CONFIG, rows * (FRAMES + DELAY))
    scheduler = Scheduler[RowHandle](cache, max_rows=rows, max_queue=waiting + 1, max_joins_per_step=rows)
    width = min(rows, 2)
    for name in range(rows // width + waiting):
        scheduler.add(sequence(name, width))
    scheduler.schedule(0.0)
    assert scheduler.free_rows == 0
    return scheduler


def say_share(benchmark: BenchmarkFixture) -> None:
    if benchmark.stats is not None:
        benchmark.extra_info["step_share"] = round(benchmark.stats.stats.median / REAL_TIME_STEP_S, 6)


@pytest.mark.benchmark(group="scheduler: a step where nobody joins or leaves", max_time=PIECE_S)
@pytest.mark.parametrize("waiting", [0, 64], ids=["no-line", "64-wait"])
@pytest.mark.parametrize("rows", ROWS, ids=lambda rows: f"{rows}-rows")
def test_schedule(benchmark: BenchmarkFixture, rows: int, waiting: int) -> None:
    benchmark(scheduler_of(rows, waiting).schedule, 0.0)
    say_share(benchmark)


@pytest.mark.benchmark(group="scheduler: one leaves, one joins", max_time=PIECE_S)
@pytest.mark.parametrize("rows", ROWS[1:], ids=lambda rows: f"{rows}-rows")
def test_turnover(benchmark: BenchmarkFixture, rows: int) -> None:
    """Lengths vary, so that regions must be found between others."""
    scheduler = scheduler_of(rows)
    count = 0

    def turn() -> None:
        nonlocal count
        scheduler.remove(str(count))
        scheduler.add(sequence(rows // 2 + count, frames=FRAMES - 100 * (count % 7)))
        scheduler.schedule(0.0)
        count += 1

    benchmark(turn)
    scheduler.check_integrity()
    say_share(benchmark)


@pytest.mark.benchmark(group="scheduler: is there room in the line", max_time=PIECE_S)
@pytest.mark.parametrize("waiting", [0, 64], ids=["no-line", "64-wait"])
def test_has_room(benchmark: BenchmarkFixture, waiting: int) -> None:
    """Asked once per request, in the stepping thread."""
    scheduler = scheduler_of(32, waiting)
    assert benchmark(scheduler.has_room, sequence(1000))
    say_share(benchmark)
