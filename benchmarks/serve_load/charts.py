"""Charts of a report of ``tutti bench serve``, drawn from its requests."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.serve_load.plot import Axis, Column, Kind, Mark, Series, chart, columns
from benchmarks.svg import Bar, bar_chart

Report = Mapping[str, Any]
_SECONDS = Axis("seconds after the start")
_BUCKETS = 60
_STYLES = ("t0", "t1", "t2", "t3", "t4", "t5")
_RESULTS = {
    "completed": "completed",
    "cancelled": "cancelled",
    "refused": "refused",
    "rate_limited": "rate limited",
    "bad": "failed",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One request, as the report has it."""

    at_s: float
    tier: str
    mode: str
    fault: str | None
    duration_s: float
    result: str
    ttfa_s: float | None
    min_slack_s: float | None
    audio_s: float
    is_good: bool


def rows(report: Report) -> list[Row]:
    """In the order in which they were sent."""
    names = Row.__dataclass_fields__
    values = (report["requests"][name] for name in names)
    return [Row(*each) for each in zip(*values, strict=True)]


def tier_styles(report: Report) -> dict[str, str]:
    """Tier → class of the style; highest first."""
    tiers = dict.fromkeys([line["tier"] for line in report["objectives"]] + report["requests"]["tier"])
    return {tier: _STYLES[index % len(_STYLES)] for index, tier in enumerate(tiers)}


def first_audio_over_time(report: Report) -> str:
    """Every stream, at the moment it was meant to be sent."""
    series = []
    for tier, style in tier_styles(report).items():
        heard = [(row.at_s, row.ttfa_s) for row in rows(report) if row.tier == tier and row.ttfa_s is not None]
        series.append(Series(tier, style, heard, "dots", [f"{at:.2f} s: {ttfa:.3f} s" for at, ttfa in heard]))
    marks = [Mark(f"{tier} ≤ {within:g} s", within) for tier, within in _promised(report, "ttfa").items()]
    up = Axis("seconds, logarithmic", is_log=True)
    return chart("Time to first audio over time", _time(report), up, series, marks)


def first_audio_distribution(report: Report) -> str:
    """Share of a tier's streams that had their first audio within so many seconds."""
    series = []
    for tier, style in tier_styles(report).items():
        heard = sorted(row.ttfa_s for row in _honest(report) if row.tier == tier and row.ttfa_s is not None)
        points = [(value, (index + 1) / len(heard)) for index, value in enumerate(heard)]
        series.append(Series(tier, style, [(heard[0], 0.0), *points] if heard else [], "steps"))
    promised = _promised(report, "ttfa").items()
    marks = [Mark(f"{tier} ≤ {within:g} s", within, is_upright=True) for tier, within in promised]
    return chart(
        "Distribution of the time to first audio",
        Axis("seconds, logarithmic", is_log=True),
        Axis("share of streams", high=1.0, is_share=True),
        series,
        marks,
    )


def goodput_over_time(report: Report) -> str:
    """Seconds of music asked for, made, and made as promised, by when they were asked for."""
    width = _bucket_s(report)
    offered, made, good = (dict.fromkeys(_buckets(report), 0.0) for _ in range(3))
    for row in _honest(report):
        at = width * int(row.at_s / width)
        offered[at] += row.duration_s / width
        made[at] += row.audio_s / width
        good[at] += row.audio_s / width if row.is_good else 0.0
    parts: tuple[tuple[str, str, dict[float, float], Kind], ...] = (
        ("asked for", "offered", offered, "area"),
        ("made", "made", made, "line"),
        ("as promised", "good", good, "line"),
    )
    series = [
        Series(name, style, [(at + width / 2, value) for at, value in values.items()], kind)
        for name, style, values, kind in parts
    ]
    return chart("Goodput over time", _time(report), Axis("seconds of audio a second"), series)


def schedule(report: Report) -> str:
    """Requests by when they were meant to be sent, and what became of them."""
    width = _bucket_s(report)
    found = {at: Column(at) for at in _buckets(report)}
    for row in rows(report):
        style = row.result if row.result in _RESULTS else "bad"
        parts = found[width * int(row.at_s / width)].parts
        parts[style] = parts.get(style, 0.0) + 1 / width
    return columns("Schedule", _time(report), Axis("requests a second"), width, list(found.values()), _RESULTS)


def stall_free(report: Report) -> str:
    """Share of streams that never stood still, with Wilson's interval."""
    bars = []
    for group in report["groups"]:
        share = group["stall_free"]
        if share["total"]:
            low, high = (100 * end for end in share["interval"])
            name = f"{group['tier']}, {group['model']}"
            bars.append(Bar(name, 100 * share["share"], low, high, "ours", f"of {share['total']}"))
    return bar_chart("Streams that never stood still", "%", bars)


def slack(report: Report) -> str:
    """The least audio that each listener had in hand: below 0 it stood still."""
    series = []
    for tier, style in tier_styles(report).items():
        found = [(row.at_s, row.min_slack_s) for row in _honest(report) if row.tier == tier]
        series.append(Series(tier, style, [(at, value) for at, value in found if value is not None], "dots"))
    marks = [Mark("stands still below", 0.0)]
    return chart("Least audio in hand", _time(report), Axis("seconds in hand", low=None), series, marks)


def saturation(report: Report) -> str:
    """Good audio against offered audio, of every trial of a search."""
    trials: Sequence[Mapping[str, Any]] = report["search"]["trials"]
    most = max(trial["offered_audio_s_per_s"] for trial in trials)
    series = [Series("all that was asked for", "offered", [(0.0, 0.0), (most, most)])]
    for verdict in ("pass", "unresolved", "fail", "invalid"):
        own = [trial for trial in trials if trial["verdict"] == verdict]
        points = [(trial["offered_audio_s_per_s"], trial["good_audio_s_per_s"]) for trial in own]
        notes = [f"{trial['rate']:.2f} requests a second: {verdict}" for trial in own]
        if own:
            series.append(Series(verdict, f"big {verdict}", points, "dots", notes))
    best = report["search"]["max_good_audio_s_per_s"]
    marks = [] if best is None else [Mark(f"most at the objectives: {best:.1f}", best)]
    across, up = Axis("seconds of audio asked for, a second"), Axis("seconds of good audio a second")
    return chart("Goodput against offered load", across, up, series, marks)


def _honest(report: Report) -> Iterator[Row]:
    return (row for row in rows(report) if row.fault is None)


def _promised(report: Report, sli: str) -> dict[str, float]:
    return {line["tier"]: line["threshold_s"] for line in report["objectives"] if line["sli"] == sli}


def _duration_s(report: Report) -> float:
    return float(report["window"]["warm_up_s"] + report["window"]["measured_s"])


def _time(report: Report) -> Axis:
    return Axis(_SECONDS.unit, 0.0, _duration_s(report))


def _bucket_s(report: Report) -> float:
    """A round number of seconds, so that there are not more than so many."""
    least = max(1.0, _duration_s(report) / _BUCKETS)
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * digit for digit in (1, 2, 5, 10) if least <= power * digit * (1 + 1e-9))


def _buckets(report: Report) -> list[float]:
    width = _bucket_s(report)
    return [index * width for index in range(math.ceil(_duration_s(report) / width - 1e-9))]
