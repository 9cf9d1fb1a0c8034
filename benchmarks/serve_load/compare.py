"""``tutti bench compare A.json B.json``: is B worse than A? Ratios with intervals, and an exit code for CI.

Requests that come close to one another share their luck, so the bootstrap draws stretches of time and not requests
(Künsch, "The jackknife and the bootstrap for general stationary observations", Annals of Statistics 17, 1989). Runs of
the same schedule are drawn in the same stretches: what one burst did to both cancels out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.compare import NotComparableError

TOLERANCE = 0.05
FEWEST = 30  # requests of either run
RESAMPLES = 2000
_STRETCHES = 20
_CANNOT = 2

Values = NDArray[np.float64]
Change = Literal["regression", "better", "same", "unresolved"]


@dataclass(frozen=True, slots=True)
class Run:
    """What is compared of a report: clients that behave, after the warm-up.

    Attributes:
        stretch: of each request, which of the equal parts of the time it falls in.
        figures: for each request; NaN where it says nothing of that.
    """

    stretch: NDArray[np.int64]
    figures: dict[str, Values]
    digest: str
    measured_s: float


@dataclass(frozen=True, slots=True)
class Metric:
    """
    Attributes:
        figure: which of a run's.
        of: requests' values and how often each was drawn → the metric.
    """

    name: str
    figure: str
    of: Callable[[Values, Values], float]
    more_is_better: bool


def _quantile(q: float) -> Callable[[Values, Values], float]:
    def of(values: Values, weights: Values) -> float:
        order = np.argsort(values)
        total = np.cumsum(weights[order])
        return float(values[order][np.searchsorted(total, q * total[-1])]) if total[-1] else np.nan

    return of


def _mean(values: Values, weights: Values) -> float:
    return float(values @ weights / weights.sum()) if weights.sum() else np.nan


def _sum(values: Values, weights: Values) -> float:
    return float(values @ weights)


METRICS = (
    Metric("time to first audio, p50", "ttfa_s", _quantile(0.50), more_is_better=False),
    Metric("time to first audio, p95", "ttfa_s", _quantile(0.95), more_is_better=False),
    Metric("time to first audio, p99", "ttfa_s", _quantile(0.99), more_is_better=False),
    Metric("time to a job's end, p95", "job_s", _quantile(0.95), more_is_better=False),
    Metric("good audio", "good_audio_s", _sum, more_is_better=True),
    Metric("streams without a stall", "stall_free", _mean, more_is_better=True),
    Metric("completed requests", "completed", _mean, more_is_better=True),
)


@dataclass(frozen=True, slots=True)
class Compared:
    """One metric of two runs: B over A, with the interval of 95 % of the resamples."""

    name: str
    a: float
    b: float
    ratio: float
    low: float
    high: float
    change: Change


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Returns:
        0: B is as good or better, as far as can be told; 1: it is worse; 2: the runs can not be compared.
    """
    parser = argparse.ArgumentParser(
        prog="tutti bench compare",
        description="Is B worse than A? Both are files that `tutti bench serve --out` wrote.",
        epilog="exit codes: 0 as good or better, or too little to tell · 1 worse · 2 cannot be compared",
    )
    parser.add_argument("a", metavar="A.json", type=Path)
    parser.add_argument("b", metavar="B.json", type=Path)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help=f"what does not matter ({TOLERANCE:g})")
    parser.add_argument("--quiet", action="store_true", help="no table: only the JSON line")
    given = parser.parse_args(arguments)
    if not 0 <= given.tolerance < 1:
        parser.error("argument --tolerance: must be from 0 to 1")
    try:
        found = compare(read_report(given.a), read_report(given.b), tolerance=given.tolerance)
    except (NotComparableError, OSError) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"Cannot compare: {error}", markup=False)
        print(json.dumps({"benchmark": "compare", "verdict": "cannot compare", "reason": str(error)}))
        return _CANNOT
    verdict = "regression" if any(each.change == "regression" for each in found) else "no regression"
    Console(quiet=given.quiet, highlight=False).print(_table(found), f"{verdict} (tolerance {given.tolerance:.0%})")
    metrics = [asdict(each) for each in found]
    print(json.dumps({"benchmark": "compare", "verdict": verdict, "tolerance": given.tolerance, "metrics": metrics}))
    return int(verdict == "regression")


def read_report(path: Path) -> dict[str, Any]:
    """
    Raises:
        NotComparableError: the file holds something else, or a run that is not to be believed.
        OSError: it can not be read.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise NotComparableError(f"{path} is no JSON ({error}): write one with tutti bench serve --out") from None
    if not isinstance(report, dict) or report.get("benchmark") != "serve" or "requests" not in report:
        raise NotComparableError(f"{path} was not written by tutti bench serve --out")
    if report["verdict"] == "invalid":
        raise NotComparableError(f"{path} is of a run that is INVALID: its generator was late")
    return report


def compare(a: dict[str, Any], b: dict[str, Any], *, tolerance: float = TOLERANCE, seed: int = 0) -> list[Compared]:
    """Every metric that both runs say something of.

    Raises:
        NotComparableError: they were asked for different things, or for too little.
    """
    for name, before, now in _identity(a, b):
        if before != now:
            raise NotComparableError(f"{name} of A is {before!r}, of B {now!r}: nothing to compare")
    runs = [_run(each, name) for each, name in ((a, "A"), (b, "B"))]
    rng = np.random.default_rng(seed)
    drawn_a, drawn_b = (rng.multinomial(_STRETCHES, [1 / _STRETCHES] * _STRETCHES, RESAMPLES) for _ in range(2))
    if runs[0].digest == runs[1].digest:
        drawn_b = drawn_a
    found = (_compared(metric, runs[0], runs[1], drawn_a, drawn_b, tolerance) for metric in METRICS)
    return [each for each in found if each is not None]


def _identity(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    settings = [name for name in a["settings"] if name not in {"seed", "processes"}]
    pairs = [(name, a["settings"][name], b["settings"].get(name)) for name in settings]
    return [
        ("schema", a["schema"], b["schema"]),
        *pairs,
        ("warm-up", a["window"]["warm_up_s"], b["window"]["warm_up_s"]),
    ]


def _run(report: dict[str, Any], name: str) -> Run:
    requests, window = report["requests"], report["window"]
    at_s = np.array(requests["at_s"], dtype=float)
    kept = (at_s >= window["warm_up_s"]) & np.array([fault is None for fault in requests["fault"]], dtype=bool)
    if kept.sum() < FEWEST:
        raise NotComparableError(f"{name} has {kept.sum()} requests to look at: at least {FEWEST} are needed")
    stretch = ((at_s[kept] - window["warm_up_s"]) / window["measured_s"] * _STRETCHES).astype(np.int64)

    def column(field: str) -> Values:
        values: Values = np.array(requests[field], dtype=float)[kept]  # None becomes NaN
        return values

    completed = np.array([result == "completed" for result in requests["result"]], dtype=float)[kept]
    is_job = np.array([mode != "stream" for mode in requests["mode"]], dtype=bool)[kept]
    stall_s = column("stall_s")
    figures = {
        "ttfa_s": column("ttfa_s"),
        "job_s": np.where(is_job & (completed > 0), column("took_s"), np.nan),
        "good_audio_s": column("audio_s") * column("is_good") / window["measured_s"],
        "stall_free": np.where(np.isnan(stall_s), np.nan, stall_s == 0),
        "completed": completed,
    }
    return Run(np.minimum(stretch, _STRETCHES - 1), figures, report["schedule"]["digest"], window["measured_s"])


def _compared(
    metric: Metric, a: Run, b: Run, drawn_a: NDArray[np.int64], drawn_b: NDArray[np.int64], tolerance: float
) -> Compared | None:
    sides = []
    for run, drawn in ((a, drawn_a), (b, drawn_b)):
        values = run.figures[metric.figure]
        said = ~np.isnan(values)
        values, stretch = values[said], run.stretch[said]
        if not len(values):
            return None
        resampled = np.array([metric.of(values, counts[stretch].astype(float)) for counts in drawn])
        sides.append((metric.of(values, np.ones(len(values))), resampled))
    (before, all_before), (now, all_now) = sides
    if before == 0:
        return None
    usable = (all_before > 0) & ~np.isnan(all_now)
    low, high = np.quantile(all_now[usable] / all_before[usable], [0.025, 0.975])
    change = _change(float(low), float(high), tolerance, more_is_better=metric.more_is_better)
    return Compared(metric.name, before, now, now / before, float(low), float(high), change)


def _change(low: float, high: float, tolerance: float, *, more_is_better: bool) -> Change:
    """What an interval of the ratio says: worse or better only if all of it lies beyond the tolerance."""
    if low > 1 + tolerance:
        return "better" if more_is_better else "regression"
    if high < 1 - tolerance:
        return "regression" if more_is_better else "better"
    return "same" if 1 - tolerance <= low and high <= 1 + tolerance else "unresolved"


def _table(found: Sequence[Compared]) -> Table:
    styles = {"regression": "bold red", "better": "green", "same": "green", "unresolved": "yellow"}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in ("A", "B", "B / A", "95 % interval"):
        table.add_column(name, justify="right")
    table.add_column("")
    for each in found:
        cells = (f"{each.a:.4g}", f"{each.b:.4g}", f"{each.ratio:.3f}", f"{each.low:.3f} … {each.high:.3f}")
        table.add_row(each.name, *cells, f"[{styles[each.change]}]{each.change}[/]")
    return table


if __name__ == "__main__":
    raise SystemExit(main())
