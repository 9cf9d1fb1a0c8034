"""What counting costs: processor time per piece of a stream, per request, and per scrape.

Extra info: ``listener_share``, the part of a core that one listener's pieces (five a second) take; for a request
``request_share``, that of one request a second.
"""

from __future__ import annotations

import time

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from api.clock import utc_now
from api.streams.pieces import PIECE_S, Piece, TrackHeader
from api.telemetry.compose import make_telemetry
from api.telemetry.recorder import Subject, Telemetry, exemplar
from api.telemetry.stream_record import StreamRecord

HEADER = TrackHeader(sample_rate=32_000, channels=1, total_samples=32_000 * 30)
SAMPLES = (np.sin(np.arange(HEADER.piece_samples) / 20) * 20_000).astype("<i2")
PCM = SAMPLES.tobytes()
SUBJECT = Subject("tiny", "pro", "stream")


def record_of(telemetry: Telemetry) -> StreamRecord:
    return StreamRecord(telemetry, SUBJECT, exemplar("req_0123456789abcdef01234567", None), asked_at=0.0)


def test_a_piece(benchmark: BenchmarkFixture) -> None:
    record = record_of(make_telemetry("ingress", utc_now))
    piece = Piece(0, 0, HEADER, PCM, time.perf_counter())

    def one() -> None:
        record.take(piece, SAMPLES)
        record.flush()
        record.flushed()

    benchmark(one)
    if benchmark.stats is not None:  # None: --benchmark-disable
        benchmark.extra_info["listener_share"] = benchmark.stats.stats.median / PIECE_S


def test_a_request(benchmark: BenchmarkFixture) -> None:
    """Accepted, streamed (its pieces not counted here), judged and counted."""
    telemetry = make_telemetry("ingress", utc_now)
    piece = Piece(0, 0, HEADER, PCM, time.perf_counter())

    def one() -> None:
        telemetry.accepted(SUBJECT, 30.0)
        record = record_of(telemetry)
        record.take(piece, SAMPLES)
        record.flush()
        record.flushed()
        record.end("completed")

    benchmark(one)
    if benchmark.stats is not None:
        benchmark.extra_info["request_share"] = benchmark.stats.stats.median


def test_a_scrape(benchmark: BenchmarkFixture) -> None:
    """Of an ingress that serves four models to three tiers, with exemplars."""
    telemetry = make_telemetry("ingress", utc_now)
    for model in ("tiny", "small", "medium", "large"):
        for tier in ("free", "pro", "enterprise"):
            subject = Subject(model, tier, "stream")
            record = StreamRecord(telemetry, subject, exemplar("req_1", None), asked_at=0.0)
            record.take(Piece(0, 0, HEADER, PCM, 0.0), SAMPLES)
            record.flush()
            record.end("completed")
    text, _ = benchmark(telemetry.registry.render, "application/openmetrics-text")
    benchmark.extra_info["bytes"] = len(text)
