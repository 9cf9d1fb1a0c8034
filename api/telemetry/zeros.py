"""Counters that are there before they count.

Prometheus sees how much a series has grown, so what it is born with is lost: of five failures that should wake
somebody, it would see four. Every series whose labels are known beforehand begins at 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Final

from api.telemetry.catalogue import CATALOGUE, MODES, UNKNOWN_MODEL, VALUES, Metric
from api.telemetry.registry import Registry

_MODES: Final[Mapping[str, tuple[str, ...]]] = {
    "ttfa": ("stream",), "continuity": ("stream",), "deadline": ("async",),
}  # fmt: skip
"""Of those service levels that are of one mode only."""
_ABSENT: Final = frozenset({"tutti_slo_info", "tutti_build_info"})  # gauges that say something by being there


def begin_at_zero(registry: Registry, models: Iterable[str]) -> None:
    """
    Args:
        models: ids of those that are served.
    """
    served = (*models, UNKNOWN_MODEL)
    for metric in CATALOGUE:
        if registry.counts(metric.name) and metric.kind != "histogram" and metric.name not in _ABSENT:
            for labels in _labels(metric, served):
                registry.begin(metric, labels)


def _labels(metric: Metric, models: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    known = {**VALUES, "model": models}
    if not metric.labels or not all(label in known for label in metric.labels):
        return  # what routes and statuses there will be nobody knows
    for values in product(*(known[label] for label in metric.labels)):
        if _occurs(dict(zip(metric.labels, values, strict=True))):
            yield values


def _occurs(labels: Mapping[str, str]) -> bool:
    if labels.get("model") == UNKNOWN_MODEL:  # refused before the model was read
        return labels.get("sli") == "admission"
    if "decision" in labels:
        return (labels["decision"] == "accepted") == (labels["reason"] == "none")
    return labels.get("mode") in (None, *_MODES.get(labels.get("sli", ""), MODES))
