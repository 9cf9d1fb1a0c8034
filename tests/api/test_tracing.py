"""Traces through gateway, queue and worker: one request, one trace, and log lines that name it."""

from __future__ import annotations

import io
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api import tracing
from api.cache.embedded import EmbeddedValkey
from api.logs import make_logger
from api.settings import Settings, SettingsError
from api.tracing import Tracing
from api.tracing_export import make_provider
from api.tracing_settings import TracingSettings
from models.errors import InvalidRequestError
from tests.api.conventions.corpus import PROMPT, lines
from tests.api.fakes import FakeGenerator
from tests.api.platform import start
from tests.spans import Recorder

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
STREAM = "/api/v1/generate/stream"
BODY = {"prompt": PROMPT, "duration": 0.5}

Call = Callable[..., Awaitable[httpx2.Response]]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
async def call(
    stack: AsyncExitStack,
    sqlite_database_url: str,
    valkey: EmbeddedValkey,
    tmp_path: Path,
    stream: io.StringIO,
    generator: FakeGenerator,
) -> Call:
    """Make one request to a platform of its own; it has stopped when the answer is here, so every span has ended."""

    async def made(recorder: Recorder, path: str = STREAM, headers: Any = (), body: Any = BODY) -> httpx2.Response:
        where: dict[str, Any] = {"database_url": sqlite_database_url, "redis_url": valkey.url, "folder": tmp_path / "p"}
        log = make_logger("info", stream)
        async with start(generator, **where, log=log, tracing=recorder.tracing) as platform:
            client = await platform.client("owner")
            answer = await client.post(path, json=body, headers=headers)
            generation_id = answer.headers.get("x-generation-id") or answer.json()["id"]
            waiting = {"Prefer": "wait=20", "traceparent": f"{PARENT[:-2]}00"}  # not recorded
            await client.get(f"/api/v1/generate/{generation_id}", headers=waiting)
        return answer

    return made


async def test_one_request_is_one_trace_from_the_call_to_the_store(
    call: Call, recorder: Recorder, generator: FakeGenerator, stream: io.StringIO
) -> None:
    answer = await call(recorder, headers={"traceparent": PARENT})
    assert answer.status_code == 200
    assert recorder.tree() == {
        f"POST {STREAM}": None,
        "admission": f"POST {STREAM}",
        "stream": f"POST {STREAM}",
        "first audio": f"POST {STREAM}",
        "queue": f"POST {STREAM}",
        "generation": f"POST {STREAM}",
        "track": "generation",
        "store": "generation",
    }
    assert recorder.trace_ids() == {TRACE_ID}
    root = recorder.one(f"POST {STREAM}")
    assert root.parent is not None
    assert f"{root.parent.span_id:016x}" == PARENT[36:52]
    assert dict(root.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": STREAM,
        "http.response.status_code": 200,
        "tutti.request_id": answer.headers["x-request-id"],
    }
    track = recorder.one("track")
    assert track.context is not None
    assert generator.requests[0].trace["traceparent"] == f"00-{TRACE_ID}-{track.context.span_id:016x}-01"
    assert PROMPT not in "".join(each.to_json() for each in recorder.spans)


async def test_every_line_about_a_traced_request_names_its_trace(
    call: Call, recorder: Recorder, stream: io.StringIO
) -> None:
    answer = await call(recorder, headers={"traceparent": PARENT})
    request_id = answer.headers["x-request-id"]
    about = [line for line in lines(stream) if line.get("request_id") == request_id]
    assert {"request", "stream_ended", "generation_state"} <= {line["event"] for line in about}
    assert {line.get("trace_id") for line in about} == {TRACE_ID}
    others = [line for line in lines(stream) if line.get("request_id") not in (request_id, None)]
    assert others
    assert not [line for line in others if "trace_id" in line]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"traceparent": "piano"},
        {"traceparent": f"ff-{TRACE_ID}-b7ad6b7169203331-01"},
        {"traceparent": f"00-{'0' * 32}-b7ad6b7169203331-01"},
        {"traceparent": f"00-{TRACE_ID.upper()}-b7ad6b7169203331-01"},
        [("traceparent", PARENT), ("traceparent", PARENT)],
    ],
)
async def test_without_a_good_traceparent_a_trace_begins_here(call: Call, recorder: Recorder, headers: Any) -> None:
    assert (await call(recorder, headers=headers)).status_code == 200
    (trace_id,) = recorder.trace_ids()
    assert trace_id != TRACE_ID
    assert recorder.one(f"POST {STREAM}").parent is None


@pytest.mark.parametrize(("ratio", "traceparent"), [(0.0, PARENT), (0.0, None), (1.0, f"{PARENT[:-2]}00")])
async def test_what_is_not_sampled_is_recorded_nowhere(
    call: Call, generator: FakeGenerator, stream: io.StringIO, ratio: float, traceparent: str | None
) -> None:
    recorder = Recorder(ratio)
    headers = {} if traceparent is None else {"traceparent": traceparent}
    assert (await call(recorder, headers=headers)).status_code == 200
    assert recorder.spans == []
    assert generator.requests[0].trace["traceparent"].endswith("-00")  # and the replica records nothing either
    assert "trace_id" not in stream.getvalue()


async def test_a_failure_is_marked_with_its_name_and_not_with_its_words(
    call: Call, recorder: Recorder, generator: FakeGenerator
) -> None:
    generator.errors = {0: InvalidRequestError(PROMPT, param="prompt")}
    answer = await call(recorder, path="/api/v1/generate", headers={"Prefer": "wait=20"}, body=BODY)
    assert answer.json()["state"] == "failed"
    for name in ("track", "generation"):
        failed = recorder.one(name)
        assert (failed.attributes or {})["error.type"] == "InvalidRequestError"
        assert not failed.status.is_ok
        assert failed.status.description is None
    assert PROMPT not in "".join(each.to_json() for each in recorder.spans)


async def test_probes_are_not_traced(
    make_platform: Callable[..., Awaitable[Any]], generator: FakeGenerator, recorder: Recorder
) -> None:
    platform = await make_platform(generator, tracing=recorder.tracing)
    client = await platform.connect()
    for path in ("/health", "/health/ready", "/metrics", "/nowhere"):
        await client.get(path)
    assert set(recorder.tree()) == {"GET"}  # what no route answers has no other name


def test_off_there_is_nothing_to_find() -> None:
    with Tracing().enter("a", PARENT) as entry, tracing.span("b") as part:
        entry.set_attribute("x", 1)
        part.update_name("c")
        assert (tracing.current_trace_id(), tracing.entry_traceparent(), tracing.current_traceparent()) == (None,) * 3
    opened = Tracing().begin("a", PARENT)
    with opened.entered():
        assert tracing.current_trace_id() is None
    opened.child("b", 0.0, 1.0)
    opened.end("error")
    assert not opened.is_recorded
    Tracing().close()


def test_spans_on_the_console_are_lines_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    traced = Tracing.start(Settings(tracing_exporter="console"), "tutti-api")
    with traced.enter("work", PARENT):
        assert tracing.current_trace_id() == TRACE_ID
    traced.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert TRACE_ID in line
    assert '"service.name": "tutti-api"' in line


@pytest.mark.parametrize(
    ("name", "value"), [("EXPORTER", "file"), ("SAMPLE_RATIO", "1.1"), ("ENDPOINT", "collector:4318")]
)
def test_a_bad_setting_is_refused_by_name(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"TUTTI_TRACING_{name}", value)
    for kind in (Settings, TracingSettings):
        with pytest.raises(SettingsError, match=f"TUTTI_TRACING_{name}"):
            kind()


def test_an_exporter_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(SettingsError, match="opentelemetry-exporter-otlp-proto-http"):
        make_provider(Settings(tracing_exporter="otlp"), "tutti-api")
