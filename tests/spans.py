"""Spans of the code under test, kept in memory."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api.tracing import Tracing
from api.tracing_export import sampler


class Recorder:
    """Everything that one ``Tracing`` has recorded.

    Args:
        ratio: share of the traces that is recorded.
    """

    def __init__(self, ratio: float = 1.0) -> None:
        self._kept = InMemorySpanExporter()
        provider = TracerProvider(sampler(ratio), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.tracing = Tracing(provider)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._kept.get_finished_spans())

    def tree(self) -> dict[str, str | None]:
        """Name of each span → name of its parent; None: it has none here."""
        names = {context.span_id: each.name for each in self.spans if (context := each.context) is not None}
        return {each.name: names.get(each.parent.span_id) if each.parent else None for each in self.spans}

    def trace_ids(self) -> set[str]:
        return {f"{each.context.trace_id:032x}" for each in self.spans if each.context is not None}

    def one(self, name: str) -> ReadableSpan:
        (found,) = [each for each in self.spans if each.name == name]
        return found
