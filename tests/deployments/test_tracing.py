"""Traces through the replica's engine, and through all processes of a platform on Ray Serve."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest

from api.tracing import Tracing
from deployments.generator import MusicGenerator
from deployments.platform import Platform
from models.types import AudioChunk, GenerationRequest
from tests.deployments.conftest import STREAM
from tests.deployments.probe import DEADLINE_S
from tests.spans import Recorder

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
STAGES = {"rows", "text encode", "decode", "codec"}


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def replica(checkpoint: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Iterator[MusicGenerator]:
    monkeypatch.setattr(Tracing, "start", lambda *_: recorder.tracing)
    made = MusicGenerator("tiny", str(checkpoint), {"max_rows": 4, "num_threads": 1})
    yield made
    made.__del__()


def request(traceparent: str | None, duration_s: float = 1.0) -> GenerationRequest:
    trace = {"request_id": "req_1", **({} if traceparent is None else {"traceparent": traceparent})}
    return GenerationRequest(uuid.uuid4().hex, "a tune", duration_s, trace=trace)


async def test_the_stages_of_the_engine_are_parts_of_the_trace(replica: MusicGenerator, recorder: Recorder) -> None:
    pieces = [chunk async for chunk in replica.generate(request(PARENT))]
    assert recorder.tree() == {"engine": None, **dict.fromkeys(STAGES, "engine")}
    assert recorder.trace_ids() == {TRACE_ID}
    engine = recorder.one("engine")
    assert dict(engine.attributes or {}) | {"tutti.track": ""} == {
        "tutti.track": "",
        "tutti.request_id": "req_1",
        "tutti.model": "tiny",
        "tutti.audio_s": 1.0,
        "tutti.outcome": "completed",
    }
    spans = {each.name: (each.start_time or 0, each.end_time or 0) for each in recorder.spans}
    assert all(spans["engine"][0] <= start <= end <= spans["engine"][1] for start, end in spans.values())
    assert spans["rows"][1] == pytest.approx(spans["text encode"][0], abs=1e6)  # one after the other, to a millisecond
    assert spans["text encode"][1] == pytest.approx(spans["decode"][0], abs=1e6)
    assert (recorder.one("decode").attributes or {})["tutti.steps"] == 50 + 3  # frames, and the last codebook's delay
    codec = recorder.one("codec").attributes or {}
    assert codec["tutti.pieces"] == len(pieces)
    assert 0 < cast(float, codec["tutti.busy_s"]) <= (spans["codec"][1] - spans["codec"][0]) / 1e9 + 1e-3


async def test_a_track_that_is_closed_tells_what_it_came_to(replica: MusicGenerator, recorder: Recorder) -> None:
    async with aclosing(cast(Any, replica.generate(request(PARENT, 5.0)))) as chunks:
        first: AudioChunk = await anext(chunks)
    assert not first.is_last
    engine = recorder.one("engine")
    assert (engine.attributes or {})["tutti.outcome"] == "closed"
    assert engine.status.is_unset
    assert set(recorder.tree()) == {"engine", *STAGES}


async def test_without_a_recorded_trace_the_engine_looks_at_no_clock(
    replica: MusicGenerator, recorder: Recorder
) -> None:
    chunks = [chunk async for chunk in replica.generate(request(f"{PARENT[:-2]}00"))]
    assert chunks[-1].is_last
    assert recorder.spans == []


def told(trace_id: str, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Spans of a trace and log lines with its id, of all processes."""
    found = [line for file in folder.glob("worker-*.err") for line in file.read_text().splitlines() if trace_id in line]
    parsed = [json.loads(line) for line in found]
    return [each for each in parsed if "parent_id" in each], [each for each in parsed if "event" in each]


@pytest.mark.ray
@pytest.mark.slow
def test_one_request_is_one_trace_through_every_process(platform: Platform, http: httpx2.Client) -> None:
    """Processes write spans on their standard error a second after they end, so the test looks until all are there."""
    from ray._private.worker import _global_node

    trace_id = uuid.uuid4().hex
    body = {"prompt": "slow piano", "duration": 1.0, "format": "pcm"}
    answer = http.post(STREAM, json=body, headers={"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"})
    assert answer.status_code == 200
    wanted = {f"POST {STREAM}", "admission", "stream", "first audio", "queue", "generation", "track", "store", "engine"}
    deadline, folder = time.monotonic() + DEADLINE_S, Path(_global_node.get_logs_dir_path())
    while not (wanted | STAGES) <= {span["name"] for span in told(trace_id, folder)[0]}:
        assert time.monotonic() < deadline, told(trace_id, folder)
        time.sleep(0.1)
    spans, lines = told(trace_id, folder)

    by_id = {span["context"]["span_id"]: span for span in spans}
    roots = [span["name"] for span in spans if span["parent_id"] not in by_id]
    assert roots == [f"POST {STREAM}"]  # and everything else hangs below it
    services = {span["name"]: span["resource"]["attributes"]["service.name"] for span in spans}
    assert (services[f"POST {STREAM}"], services["generation"]) == ("tutti-api", "tutti-worker")
    assert {services[name] for name in ("engine", *STAGES)} == {"tutti-engine"}
    assert by_id[next(s["parent_id"] for s in spans if s["name"] == "engine")]["name"] == "track"
    # The request id finds the lines of all three, each with the trace.
    about = {line["service"] for line in lines if line["request_id"] == answer.headers["x-request-id"]}
    assert about == {"tutti-api", "tutti-worker", "tutti-engine"}
