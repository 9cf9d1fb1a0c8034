"""What a Prometheus says after a run, as the checker takes it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from dashboards.preview.prometheus import Prometheus, Window
from tests.slo.checker import Key
from tests.slo.truth import Span, stretches


def requests(server: Prometheus, start: float, end: float) -> dict[Key, float]:
    """Requests that ended between two moments, by tier, mode and outcome: differences of raw values, no estimate."""
    return _grown(
        server, "sum by (tier, mode, outcome) (tutti_requests_total)", ("tier", "mode", "outcome"), start, end
    )


def levels(server: Prometheus, start: float, end: float) -> dict[tuple[str, str], float]:
    """Share of good events, by SLI and tier."""
    query = "sum by (sli, tier, result) (tutti_sli_events_total)"
    counted = _grown(server, query, ("sli", "tier", "result"), start, end)
    found: dict[tuple[str, str], float] = {}
    for sli, tier, _ in counted:
        good, bad = counted.get((sli, tier, "good"), 0.0), counted.get((sli, tier, "bad"), 0.0)
        if good + bad:
            found[sli, tier] = good / (good + bad)
    return found


def quantiles(
    server: Prometheus, histogram: str, where: str, qs: Sequence[float], start: float, end: float
) -> dict[float, float]:
    """As a panel would show them, over all between two moments."""
    window = f"[{max(1, round((end - start) * 1000))}ms]"
    buckets = f"sum by (le) (increase({histogram}_bucket{{{where}}}{window}))"
    found = {q: server.query(f"histogram_quantile({q}, {buckets})", end) for q in qs}
    return {q: series[0].last for q, series in found.items() if series}


def firing(server: Prometheus, start: float, end: float, every_s: float) -> dict[str, list[Span]]:
    """When each alert fired, by name, tier and window (``alert_of`` puts them together)."""
    query = 'max by (alertname, tier, burn) (ALERTS{alertstate="firing"})'
    found: dict[str, list[Span]] = defaultdict(list)
    for series in server.query_range(query, Window(start, end, every_s)):
        times = [at for at, _ in series.points]
        found[alert_of(series.labels)] += stretches(times, lambda _: True, every_s)
    return dict(found)


def alert_of(labels: Mapping[str, str]) -> str:
    return " ".join(filter(None, (labels.get("alertname"), labels.get("tier"), labels.get("burn"))))


def _grown(
    server: Prometheus, query: str, labels: tuple[str, str, str], start: float, end: float
) -> dict[tuple[str, str, str], float]:
    grown: dict[tuple[str, str, str], float] = defaultdict(float)
    for at, sign in ((start, -1), (end, 1)):
        for series in server.query(query, at):
            first, second, third = (series.labels.get(label, "") for label in labels)
            grown[first, second, third] += sign * series.last
    return dict(grown)
