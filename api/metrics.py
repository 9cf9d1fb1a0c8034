"""What the HTTP side counts, in a registry of its own: Prometheus text at ``/metrics``.

It shows this process only: one gateway replica and no engine. The replicas' numbers leave through Ray's own metrics.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

FIRST_AUDIO_BUCKETS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 30, 60)


class Metrics:
    """One attribute per metric. Labels hold no ids and no client's words, so their number is bounded."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "tutti_http_requests",
            "Responses by route and status; 499 is a client that left before the response began",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.streams = Counter(
            "tutti_streams",
            "Audio streams by how they ended: completed, disconnected, refused (before the first byte), cut (after it)",
            ["model", "format", "outcome"],
            registry=self.registry,
        )
        self.cut_streams = Counter(
            "tutti_stream_errors_after_first_byte",
            "Streams that were cut by an error after their first byte",
            ["model", "error"],
            registry=self.registry,
        )
        self.active_streams = Gauge(
            "tutti_streams_active", "Audio streams being made now", ["model"], registry=self.registry
        )
        self.listeners = Gauge(
            "tutti_listeners", "Open streams of events: sse, websocket", ["kind"], registry=self.registry
        )
        self.first_audio = Histogram(
            "tutti_time_to_first_audio_seconds",
            "From the parsed request to the first bytes of audio handed to the server",
            ["model"],
            buckets=FIRST_AUDIO_BUCKETS_S,
            registry=self.registry,
        )
        self.audio_seconds = Counter(
            "tutti_audio_sent_seconds", "Seconds of audio handed to the server", ["model"], registry=self.registry
        )

    def render(self) -> bytes:
        """Prometheus text format."""
        return generate_latest(self.registry)
