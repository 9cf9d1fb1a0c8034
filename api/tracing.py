"""Traces: where the time of a request went, from the gateway through the queue and the worker to the replica.

    gateway   POST /api/v1/generate/stream ─┬─ admission
                                            └─ stream, first audio
    worker      ├─ queue        (from the acceptance to the lease)
                └─ generation ─┬─ track
                               └─ store
    replica                         └─ engine ── rows, text encode, decode, codec

One process has one ``Tracing``. Whatever works inside one of its entries finds it in its context, so nobody hands it
around, and where there is none (the default) ``span`` is a look into a context variable. Spans carry ids, sizes and
names of errors, and no client's words. OpenTelemetry's SDK is imported by a process that traces, and by no other.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

from opentelemetry.trace import get_current_span

from api import tracing_spans as spans
from api.tracing_settings import TracingWish
from api.tracing_spans import Entry

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

Value = str | bool | int | float
Kind = Literal["server", "consumer", "client", "internal"]
TRACEPARENT = "traceparent"


class Span(Protocol):
    """What may be done to a span, whether it is recorded or not."""

    def set_attribute(self, key: str, value: Value) -> None: ...
    def update_name(self, name: str) -> None: ...


class _NoSpan:
    def set_attribute(self, key: str, value: Value) -> None:
        """Nobody traces."""

    def update_name(self, name: str) -> None:
        """Nobody traces."""


_NOTHING: AbstractContextManager[Span] = nullcontext(_NoSpan())


class Tracing:
    """What makes the spans of one process.

    Args:
        provider: None: nothing is traced.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._provider = provider
        self._tracer = None if provider is None else provider.get_tracer("tutti")

    @classmethod
    def start(cls, wish: TracingWish, service: str) -> Tracing:
        """As the operator wants it.

        Args:
            service: which part of the platform this process is.

        Raises:
            SettingsError: the exporter is not installed.
        """
        if wish.tracing_exporter == "none":
            return cls()
        from api.tracing_export import make_provider

        return cls(make_provider(wish, service))

    def enter(
        self, name: str, traceparent: str | None, kind: Kind = "internal", **tags: Value
    ) -> AbstractContextManager[Span]:
        """Join the trace of a ``traceparent``, or begin one if there is none (or it is none), for as long as the block
        lasts; spans made inside belong to it. For coroutines: an async generator may be resumed in another context.
        """
        if self._tracer is None:
            return _NOTHING
        made = spans.start(self._tracer, name, spans.context_of(traceparent), kind, tags)
        return spans.entered(Entry(self._tracer, made))

    def begin(
        self, name: str, traceparent: str | None, kind: Kind = "internal", at: datetime | None = None, **tags: Value
    ) -> OpenSpan:
        """The same without a block: for what ends elsewhere, or is an async generator.

        Args:
            at: when it began; left out: now.
        """
        if self._tracer is None:
            return OpenSpan(None)
        made = spans.start(self._tracer, name, spans.context_of(traceparent), kind, tags, at)
        return OpenSpan(Entry(self._tracer, made))

    def close(self) -> None:
        """Send what has not been sent yet. Blocks for as long as the exporter does."""
        if self._provider is not None:
            self._provider.shutdown()


class OpenSpan:
    """A span that is ended by ``end``; until then it may be entered anywhere, also several times.

    Args:
        entry: None: nothing is traced.
    """

    def __init__(self, entry: Entry | None) -> None:
        self._entry = entry

    @property
    def is_recorded(self) -> bool:
        return self._entry is not None and self._entry.span.is_recording()

    def entered(self) -> AbstractContextManager[None]:
        """Spans made inside the block, and in tasks that are made there, are parts of it."""
        return nullcontext() if self._entry is None else spans.active(self._entry)

    def child(self, name: str, start_s: float, end_s: float, **tags: Value) -> None:
        """A part of it that has ended already.

        Args:
            start_s, end_s: seconds of ``time.perf_counter``.
        """
        if self._entry is not None:
            spans.told(self._entry, name, spans.wall_ns(start_s), spans.wall_ns(end_s), tags)

    def end(self, error: str | None = None, **tags: Value) -> None:
        """
        Args:
            error: the name of what went wrong.
        """
        if self._entry is None:
            return
        for key, value in tags.items():
            self._entry.span.set_attribute(spans.named(key), value)
        if error is not None:
            spans.mark(self._entry.span, error)
        self._entry.span.end()


# --------------------------------------------------------------------------------------- inside an entry
def span(name: str, kind: Kind = "internal", **tags: Value) -> AbstractContextManager[Span]:
    """A part of the current trace, if there is one, for as long as the block lasts."""
    entry = spans.current.get()
    return _NOTHING if entry is None else spans.part(entry, name, kind, tags)


def tell(name: str, start_unix_s: float, end_unix_s: float, **tags: Value) -> None:
    """A part of the current trace that has ended already, told by the clock on the wall."""
    if (entry := spans.current.get()) is not None:
        spans.told(entry, name, int(start_unix_s * 1e9), int(end_unix_s * 1e9), tags)


def entry_traceparent() -> str | None:
    """W3C ``traceparent`` of the span by which the current trace came into this process; None: there is no trace."""
    entry = spans.current.get()
    return None if entry is None else spans.traceparent_of(entry.span)


def current_traceparent() -> str | None:
    """W3C ``traceparent`` of the innermost span; None: there is no trace."""
    return None if spans.current.get() is None else spans.traceparent_of(get_current_span())


def current_trace_id() -> str | None:
    """32 hex digits, for a log line or an exemplar; None: nothing is traced here, or this trace is not recorded."""
    entry = spans.current.get()
    return None if entry is None else spans.trace_id_of(entry.span)


def trace_id_in(traceparent: str | None) -> str | None:
    """Of a ``traceparent`` that this platform has written; None: there is none, or its trace is not recorded."""
    return traceparent[3:35] if traceparent is not None and traceparent.endswith("1") else None
