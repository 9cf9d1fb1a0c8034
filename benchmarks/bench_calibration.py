"""What this machine does just now, in the same run as the hot paths: their times are told in multiples of these.

Three kinds of work, because machines differ in their proportion: Python's interpreter, one thread of arithmetic, and
many small calls into torch.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

PIECE_S = 0.5  # of each measurement


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def interpreted() -> int:
    """Attribute look-ups, arithmetic and dictionaries, as a scheduler has them."""
    seen: dict[int, int] = {}
    for index in range(2000):
        seen[index % 97] = seen.get(index % 89, 0) + index
    return len(seen)


@pytest.mark.benchmark(group="calibration", max_time=PIECE_S)
def test_interpreter(benchmark: BenchmarkFixture) -> None:
    assert benchmark(interpreted) == 97


@pytest.mark.benchmark(group="calibration", max_time=PIECE_S)
def test_arithmetic(benchmark: BenchmarkFixture) -> None:
    left, right = torch.randn(384, 384), torch.randn(384, 384)
    benchmark(torch.mm, left, right)


@pytest.mark.benchmark(group="calibration", max_time=PIECE_S)
def test_small_calls(benchmark: BenchmarkFixture) -> None:
    """Three passes over a few kilobytes each: what a call costs, and what small tensors do."""
    values = torch.randn(8, 2048)

    def calls() -> None:
        for _ in range(10):
            values.softmax(-1).argmax(-1)

    benchmark(calls)
