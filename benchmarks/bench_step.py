"""How long one batched step takes on one CPU thread: the transformer alone, and the whole engine around it.

Random weights of the tiny model's shape. Rows are guided pairs, half with a text and half without, as they come in
practice; a row alone is unguided. Early rows have 16 positions of past, late ones 1,400 of at most 1,503, so the
distance between the two is the price of reading keys and values. Extra info: ``rows_per_s``, ``real_time_factor``
(seconds of audio per second over all streams, codec left out for the transformer alone) and ``gb_per_s``, the bytes
that a step can not avoid reading over its time, to hold against ``test_ceiling``: a copy of as many bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.weights import random_weights
from benchmarks.workload import PROMPTS
from models.engine.engine import Engine
from models.engine.loader import LoadedModel
from models.engine_config import EngineConfig
from models.musicgen.decoder import MusicGenDecoder
from models.musicgen.kv_cache import KVCache, KVCacheView
from models.types import GenerationRequest

ROWS = [1, 2, 8, 16, 32]
EARLY, LATE = 16, 1400
PIECE_S = 0.5  # of each measurement


@pytest.fixture(scope="module")
def model() -> Iterator[LoadedModel]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with random_weights("tiny", "cpu", seed=0) as weights:
        # torch's decoder: our CPU kernel keeps its own cache, and takes its time in `tutti bench engine`.
        yield replace(weights.ours("fp32", "cpu"), decoder=MusicGenDecoder.from_checkpoint(weights.checkpoint))
    torch.set_num_threads(threads)


def filled_view(model: LoadedModel, rows: int, past: int) -> KVCacheView:
    """Rows with so many positions of random past; the first half (at least one) listens to a text."""
    config = model.config.decoder
    cache = KVCache(config, rows * (past + 1))
    handles = [cache.allocate(past + 1) for _ in range(rows)]
    text = model.decoder.cross_kv(model.decoder.project_text(model.text.encode(PROMPTS[0])))
    for handle in handles[: (rows + 1) // 2]:
        cache.set_cross(handle, text)
    view = cache.view(handles)
    noise = torch.randn(rows, 2, config.num_heads, config.head_dim)
    for position in range(past):
        step = view.advance(torch.full((rows,), position))
        for layer in range(config.num_layers):
            step.store(layer, noise)
    return view


def bytes_per_step(decoder: MusicGenDecoder, rows: int, past: int) -> int:
    """Weights once, every row's own keys and values; float32."""
    config = decoder.config
    weights = sum(each.numel() for name, each in decoder.named_parameters() if "cross_kv" not in name)
    return 4 * (weights - decoder.embedding.numel() + 2 * config.num_layers * config.hidden_size * rows * past)


def say_rates(benchmark: BenchmarkFixture, rows: int, frame_rate: int) -> None:
    if benchmark.stats is None:  # --benchmark-disable
        return
    median_s = benchmark.stats.stats.median
    benchmark.extra_info["rows_per_s"] = round(rows / median_s)
    benchmark.extra_info["real_time_factor"] = round(((rows + 1) // 2) / median_s / frame_rate, 2)


@pytest.mark.benchmark(group="step: ceiling", max_time=PIECE_S)
def test_ceiling(benchmark: BenchmarkFixture, model: LoadedModel) -> None:
    """A copy that touches as many bytes as a late step of 2 rows."""
    total = bytes_per_step(cast(MusicGenDecoder, model.decoder), 2, LATE)
    source = torch.ones(total // 8)
    benchmark(torch.empty_like(source).copy_, source)
    if benchmark.stats is not None:
        benchmark.extra_info["gb_per_s"] = round(total / benchmark.stats.stats.median / 1e9, 1)


@pytest.mark.benchmark(group="step: transformer", max_time=PIECE_S)
@pytest.mark.parametrize("past", [EARLY, LATE], ids=["early", "late"])
@pytest.mark.parametrize("rows", ROWS, ids=lambda rows: f"{rows}-rows")
@torch.inference_mode()
def test_forward_step(benchmark: BenchmarkFixture, model: LoadedModel, rows: int, past: int) -> None:
    view = filled_view(model, rows, past)
    codes = torch.randint(model.config.decoder.vocab_size, (rows, model.config.decoder.num_codebooks))
    # The last position may be written again: every round is the same step.
    decoder = cast(MusicGenDecoder, model.decoder)
    benchmark(decoder.forward_step, codes, torch.full((rows,), past), view)
    say_rates(benchmark, rows, model.config.frame_rate)
    if benchmark.stats is not None:
        moved = bytes_per_step(decoder, rows, past)
        benchmark.extra_info["gb_per_s"] = round(moved / benchmark.stats.stats.median / 1e9, 1)


@pytest.mark.benchmark(group="step: whole engine, 50 steps")
@pytest.mark.parametrize("streams", [1, 4, 8], ids=lambda streams: f"{streams}-streams")
def test_engine_steps(benchmark: BenchmarkFixture, model: LoadedModel, streams: int) -> None:
    """Scheduler, transformer, sampler and codec together, from the first step of guided 30 s streams on."""

    def fresh() -> tuple[tuple[Engine], dict[str, object]]:
        engine = Engine(model, EngineConfig(max_rows=2 * streams))
        for index in range(streams):
            engine.add(GenerationRequest(str(index), PROMPTS[index % len(PROMPTS)], 30.0, seed=index))
        return (engine,), {}

    def steps(engine: Engine) -> None:
        for _ in range(50):
            engine.step()

    benchmark.pedantic(steps, setup=fresh, rounds=3, warmup_rounds=1)  # type: ignore[no-untyped-call] # theirs is not
    if benchmark.stats is not None:
        step_s = benchmark.stats.stats.median / 50
        benchmark.extra_info["steps_per_s"] = round(1 / step_s, 1)
        benchmark.extra_info["real_time_factor"] = round(streams / step_s / model.config.frame_rate, 2)
