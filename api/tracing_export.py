"""The OpenTelemetry SDK as this platform uses it: imported only by a process that traces."""

from __future__ import annotations

import sys

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, TraceIdRatioBased

from api.environment import SettingsError
from api.tracing_settings import TracingWish
from api.version import VERSION

SEND_EVERY_MS = 1000


def make_provider(wish: TracingWish, service: str, exporter: SpanExporter | None = None) -> TracerProvider:
    """A provider of its own: the global one, which Ray and libraries may use, is left alone.

    Args:
        exporter: left out: the one that is wished for.

    Raises:
        SettingsError: the exporter is not installed.
    """
    # All that is kept of its environment: what the SDK finds out by itself (host, command line) stays out.
    resource = Resource({"service.name": service, "service.version": VERSION})
    provider = TracerProvider(sampler(wish.tracing_sample_ratio), resource, shutdown_on_exit=False)
    made = exporter if exporter is not None else _exporter(wish)
    provider.add_span_processor(BatchSpanProcessor(made, schedule_delay_millis=SEND_EVERY_MS))
    return provider


def sampler(ratio: float) -> Sampler:
    """The share of traces that is recorded, decided by the trace's id, so that all processes decide alike.

    A client that says "recorded" is not believed: it would decide what the operator's collector has to take.
    """
    share = TraceIdRatioBased(ratio)
    return ParentBased(root=share, remote_parent_sampled=share, remote_parent_not_sampled=ALWAYS_OFF)


def _exporter(wish: TracingWish) -> SpanExporter:
    if wish.tracing_exporter == "console":
        return ConsoleSpanExporter(out=sys.stderr, formatter=_line)
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ModuleNotFoundError as error:
        raise SettingsError(
            "TUTTI_TRACING_EXPORTER=otlp needs the package opentelemetry-exporter-otlp-proto-http: install the extra "
            "`otlp` of pyproject.toml, or set it to console or none"
        ) from error
    made: SpanExporter = OTLPSpanExporter(endpoint=wish.tracing_endpoint)
    return made


def _line(span: ReadableSpan) -> str:
    return f"{span.to_json(indent=None)}\n"
