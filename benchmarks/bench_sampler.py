"""How long it takes to turn one step's logits into codes, on one CPU thread: guidance, truncation and draw.

2,048 codes in 4 codebooks, as published. B guided requests bring 2 B rows of logits; 1 row is an unguided request.
Extra info: ``rows_per_s``, and ``step_share``, the part of a 20 ms step (real time) that sampling takes.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from models.engine.random_numbers import exponentials
from models.engine.sampler import SamplingBatch, sample
from models.types import SamplingParams

CODEBOOKS, VOCAB = 4, 2048
ROWS = [1, 2, 8, 16, 32]
KINDS = {
    "top-k": SamplingParams(top_k=250),
    "top-p": SamplingParams(top_p=0.9),
    "untruncated": SamplingParams(top_k=0),
    "greedy": SamplingParams(greedy=True),
}
REAL_TIME_STEP_S = 0.02
PIECE_S = 0.3  # of each measurement


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def batch_of(params: list[SamplingParams], rows: int) -> SamplingBatch:
    requests = len(params)
    null_rows = range(requests, rows) if rows > requests else range(requests)
    return SamplingBatch.build(
        params, list(range(requests)), list(null_rows), num_codebooks=CODEBOOKS, vocab_size=VOCAB
    )


def measure(benchmark: BenchmarkFixture, params: list[SamplingParams], rows: int) -> None:
    batch = batch_of(params, rows)
    logits = torch.randn(rows, CODEBOOKS, VOCAB, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        benchmark(sample, logits, torch.arange(len(params)), batch)
    if benchmark.stats is not None:
        median_s = benchmark.stats.stats.median
        benchmark.extra_info["rows_per_s"] = round(rows / median_s)
        benchmark.extra_info["step_share"] = round(median_s / REAL_TIME_STEP_S, 3)


@pytest.mark.benchmark(group="sampler: requests of one kind", max_time=PIECE_S)
@pytest.mark.parametrize("rows", ROWS, ids=lambda rows: f"{rows}-rows")
@pytest.mark.parametrize("kind", KINDS)
def test_sample(benchmark: BenchmarkFixture, kind: str, rows: int) -> None:
    measure(benchmark, [KINDS[kind]] * max(1, rows // 2), rows)


@pytest.mark.benchmark(group="sampler: all kinds in one batch", max_time=PIECE_S)
@pytest.mark.parametrize("rows", [8, 32], ids=lambda rows: f"{rows}-rows")
def test_mixed(benchmark: BenchmarkFixture, rows: int) -> None:
    measure(benchmark, list(KINDS.values()) * (rows // 8), rows)


@pytest.mark.benchmark(group="sampler: random numbers alone", max_time=PIECE_S)
@pytest.mark.parametrize("requests", [1, 16], ids=lambda requests: f"{requests}-requests")
def test_random_numbers(benchmark: BenchmarkFixture, requests: int) -> None:
    batch = batch_of([SamplingParams()] * requests, requests)
    benchmark(exponentials, batch.seeds, torch.arange(requests), batch.codebooks, batch.offsets, VOCAB)


@pytest.mark.benchmark(group="sampler: layout, when a request joins or leaves", max_time=PIECE_S)
@pytest.mark.parametrize("requests", [1, 16], ids=lambda requests: f"{requests}-requests")
def test_layout(benchmark: BenchmarkFixture, requests: int) -> None:
    benchmark(batch_of, (list(KINDS.values()) * requests)[:requests], 2 * requests)
