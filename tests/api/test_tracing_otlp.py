"""Traces on their way to a collector: what comes out of the real exporter, read with OpenTelemetry's own messages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from api.settings import Settings
from api.tracing import Tracing

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otlp is not installed")


@pytest.fixture
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """Its address, and what it was sent."""
    sent: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            sent.append(ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Not on standard error."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", sent
        server.shutdown()
        thread.join()


def test_a_collector_gets_spans_with_their_service(
    collector: tuple[str, list[ExportTraceServiceRequest]],
) -> None:
    url, sent = collector
    traced = Tracing.start(Settings(tracing_exporter="otlp", tracing_endpoint=url), "tutti-worker")
    with traced.enter("generation", None, "consumer", generation_id="gen_1"):
        pass
    traced.close()
    [resource] = [each for request in sent for each in request.resource_spans]
    assert {each.key: each.value.string_value for each in resource.resource.attributes}[
        "service.name"
    ] == "tutti-worker"
    [span] = [span for scope in resource.scope_spans for span in scope.spans]
    assert span.name == "generation"
    assert {each.key: each.value.string_value for each in span.attributes} == {"tutti.generation_id": "gen_1"}
