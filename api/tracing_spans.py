"""Spans as OpenTelemetry makes them: what ``api.tracing`` does once something is traced, imported not sooner."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime

from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Tags = Mapping[str, str | bool | int | float]


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a trace came into this process."""

    tracer: otel.Tracer
    span: otel.Span


current: ContextVar[Entry | None] = ContextVar("tutti_trace_entry", default=None)


def start(
    tracer: otel.Tracer, name: str, context: Context | None, kind: str, tags: Tags, at: datetime | None = None
) -> otel.Span:
    """
    Args:
        context: None: that of here and now.
    """
    attributes = {named(key): value for key, value in tags.items()}
    start_ns = None if at is None else int(at.timestamp() * 1e9)
    return tracer.start_span(name, context, otel.SpanKind[kind.upper()], attributes, start_time=start_ns)


@contextmanager
def entered(entry: Entry) -> Iterator[otel.Span]:
    """Inside the block, and end it with the block."""
    with active(entry), _ending(entry.span):
        yield entry.span


@contextmanager
def active(entry: Entry) -> Iterator[None]:
    """Inside the block, whenever it ends."""
    token = current.set(entry)
    try:
        with otel.use_span(entry.span, record_exception=False, set_status_on_exception=False):
            yield
    finally:
        current.reset(token)


@contextmanager
def part(entry: Entry, name: str, kind: str, tags: Tags) -> Iterator[otel.Span]:
    """A child of the innermost span."""
    made = start(entry.tracer, name, None, kind, tags)
    with otel.use_span(made, record_exception=False, set_status_on_exception=False), _ending(made):
        yield made


def told(entry: Entry, name: str, start_ns: int, end_ns: int, tags: Tags) -> None:
    """A child of the entry's span that has ended already; nanoseconds of Unix time."""
    attributes = {named(key): value for key, value in tags.items()}
    context = otel.set_span_in_context(entry.span)
    made = entry.tracer.start_span(name, context, attributes=attributes, start_time=start_ns)
    made.end(max(start_ns, end_ns))  # clocks of two machines may disagree


def mark(span: otel.Span, error: str) -> None:
    """It went wrong. Never with an exception's message: that may hold a prompt."""
    span.set_attribute("error.type", error)
    span.set_status(otel.StatusCode.ERROR)


def named(tag: str) -> str:
    """OpenTelemetry's own names have a dot; ours get a namespace."""
    return tag if "." in tag else f"tutti.{tag}"


def context_of(traceparent: str | None) -> Context:
    """Of a client's or a colleague's ``traceparent``; an empty one if that is none."""
    carrier = {} if traceparent is None else {"traceparent": traceparent}
    return TraceContextTextMapPropagator().extract(carrier, Context())


def traceparent_of(span: otel.Span) -> str:
    """W3C Trace Context, version 00."""
    found = span.get_span_context()
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{int(found.trace_flags.sampled):02x}"


def trace_id_of(span: otel.Span) -> str | None:
    """None: the trace is not recorded."""
    found = span.get_span_context()
    return f"{found.trace_id:032x}" if found.trace_flags.sampled else None


def wall_ns(monotonic_s: float) -> int:
    """Unix time of a moment of ``time.perf_counter``."""
    return time.time_ns() - int((time.perf_counter() - monotonic_s) * 1e9)


@contextmanager
def _ending(span: otel.Span) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        mark(span, type(error).__name__)
        raise
    finally:
        span.end()
