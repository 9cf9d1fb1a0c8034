"""PromQL that many panels share. Windows are Grafana's variables, so that zooming changes the resolution."""

from __future__ import annotations

from dashboards.builder.model import Target, Variable

MODEL = Variable("model", "Model", query="tutti_requests_total")
TIER = Variable("tier", "Tier", options=("enterprise", "pro", "free"))

BY_MODEL = 'model=~"$model"'
BY_TIER = 'tier=~"$tier"'
BOTH = f"{BY_MODEL},{BY_TIER}"

QUANTILES = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))


def rate(metric: str, where: str = "", by: str = "") -> str:
    """Increase per second of a counter, summed by labels."""
    return _sum(f"rate({metric}{{{where}}}[$__rate_interval])", by)


def increase(metric: str, where: str = "", by: str = "") -> str:
    """Increase of a counter over all that is shown, summed by labels."""
    return _sum(f"increase({metric}{{{where}}}[$__range])", by)


def total(metric: str, where: str = "", by: str = "") -> str:
    """A gauge, summed by labels."""
    return _sum(f"{metric}{{{where}}}", by)


def backlog(where: str = "", by: str = "") -> str:
    """Audio that is accepted and not made. Every worker tells the same of the whole platform: one of them counts."""
    return _sum(f"max by (model, tier, state) (tutti_engine_backlog_audio_seconds{{{where}}})", by)


def share(part: str, whole: str) -> str:
    """One sum over another; no value, rather than NaN, where there was no traffic."""
    return f"{part} / ({whole} > 0)"


def share_of_all(parts: str, whole: str) -> str:
    """Each part over one sum without labels."""
    return f"{parts} / on () group_left () ({whole} > 0)"


def or_zero(expr: str) -> str:
    """For what exists only once it has happened: nothing counted is 0."""
    return f"({expr}) or vector(0)"


def quantile(q: float, histogram: str, where: str = "", by: str = "") -> str:
    """Estimate from buckets; right to within one bucket."""
    labels = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({q:g}, sum by ({labels}) (rate({histogram}_bucket{{{where}}}[$__rate_interval])))"


def quantiles(histogram: str, where: str = "") -> tuple[Target, ...]:
    """Median, 95th and 99th percentile, with exemplars at the last."""
    return tuple(
        Target(quantile(q, histogram, where), name, exemplar=name == QUANTILES[-1][1]) for q, name in QUANTILES
    )


def mean(histogram: str, where: str = "", by: str = "") -> str:
    """Of a histogram's values; exact."""
    return share(rate(f"{histogram}_sum", where, by), rate(f"{histogram}_count", where, by))


def buckets(histogram: str, where: str = "") -> str:
    """How many values fell into each bucket, for a heatmap."""
    return f"sum by (le) (increase({histogram}_bucket{{{where}}}[$__rate_interval]))"


def _sum(expr: str, by: str) -> str:
    return f"sum by ({by}) ({expr})" if by else f"sum({expr})"
