"""Registries made from the catalogue: one per process, of the planes that it serves, and nothing that is not listed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from api.telemetry.catalogue import CATALOGUE, TIERS, Metric, Plane

# When each series was made: it would double their number, and Prometheus finds restarts by itself.
disable_created_metrics()  # type: ignore[no-untyped-call]

Values = Mapping[str, Mapping[tuple[str, ...], float]]
"""Metric → values of its labels → number."""


class Registry:
    """The metrics of one process.

    Args:
        planes: what it counts.
        also: names of single metrics of other planes.
    """

    def __init__(self, planes: Iterable[Plane], also: Iterable[str] = ()) -> None:
        wanted, names = frozenset(planes), frozenset(also)
        self.collectors = CollectorRegistry()
        ProcessCollector(registry=self.collectors)
        listed = [each for each in CATALOGUE if each.plane in wanted or each.name in names]
        self._families = {each.name: self._make(each) for each in listed}

    def counts(self, name: str) -> bool:
        """Whether this process has the metric."""
        return name in self._families

    def begin(self, each: Metric, labels: tuple[str, ...]) -> None:
        """Make a series of the metric that is there, at 0."""
        self._families[each.name].labels(*labels)

    def counter(self, name: str) -> Counter:
        """
        Raises:
            KeyError: this process does not count it.
        """
        family: Counter = self._families[name]
        return family

    def gauge(self, name: str) -> Gauge:
        family: Gauge = self._families[name]
        return family

    def histogram(self, name: str) -> Histogram:
        family: Histogram = self._families[name]
        return family

    def take(self, counters: Values, gauges: Values) -> None:
        """What counters have grown by, and gauges as they are.

        Raises:
            KeyError: this process does not have one of them.
        """
        for name, series in counters.items():
            for labels, increment in series.items():
                self.counter(name).labels(*labels).inc(increment)
        for name, series in gauges.items():
            for labels, value in series.items():
                self.gauge(name).labels(*labels).set(value)

    def render(self, accept: str | None = None) -> tuple[bytes, str]:
        """What a scraper is answered, and its content type.

        Args:
            accept: the header; who asks for OpenMetrics gets it, with exemplars; anybody else the older text format.
        """
        encode, content_type = choose_encoder(accept or "")
        return encode(self.collectors), content_type

    def _make(self, each: Metric) -> Any:
        if each.kind == "counter":  # the library adds the ending
            return Counter(each.name.removesuffix("_total"), each.help, each.labels, registry=self.collectors)
        if each.kind == "gauge":
            return Gauge(each.name, each.help, each.labels, registry=self.collectors)
        return Histogram(each.name, each.help, each.labels, buckets=each.buckets, registry=self.collectors)


def tier_label(tier: str | None) -> str:
    """A tier that operators made up, or nobody knows, counts as the lowest: labels are closed."""
    return tier if tier in TIERS else TIERS[0]
