"""The highest load that meets the objectives: twice as much until they are missed, then bisection between the two.

A trial whose sample is too small to tell is made once more with another seed, and both are counted together. What is
still unresolved then goes by its shares as they are, and the result says that it rests on that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.serve_load.statistics import Share, Verdict, worst

TRIES = 2  # of one rate

Lines = Sequence[dict[str, Any]]
Result = dict[str, Any]
Run = Callable[[float, int], Result]
"""Rate and which try of it this is (from 0) → report of a run (``evaluate``). Each try has its own seed, the same for
all rates: their schedules are then one schedule at different speeds, and luck does not decide between them."""


@dataclass(slots=True)
class Search:
    """
    Attributes:
        met: highest rate that met the objectives; whether the sample showed it, or only looks so.
        best: report of the trial that made the most good audio among those that met them.
        missed: lowest rate that missed them, or that the generator could not send in time.
        trials: one line each, in the order in which they were made.
    """

    met: float = 0.0
    best: Result | None = None
    is_shown: bool = False
    missed: float = math.inf
    is_missed_shown: bool = False
    missed_by: Literal["objectives", "generator"] | None = None
    stopped: Literal["precision", "trials"] = "trials"
    trials: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "max_rate": self.met or None,
            "max_good_audio_s_per_s": None if self.best is None else self.best["total"]["good_audio_s_per_s"],
            "missed_rate": None if math.isinf(self.missed) else self.missed,
            "missed_by": self.missed_by,
            "stopped": self.stopped,
            "trials": self.trials,
        }

    @property
    def verdict(self) -> Verdict:
        """pass: the load that was found meets the objectives, and a little more was shown to miss them."""
        if self.best is None:
            return "fail" if self.is_missed_shown else "unresolved"
        is_bracketed = self.stopped == "precision" and self.is_missed_shown
        return "pass" if self.is_shown and is_bracketed else "unresolved"

    def next_rate(self, rate: float) -> float:
        if math.isinf(self.missed):
            return 2 * rate
        return math.sqrt(self.met * self.missed) if self.met else rate / 2

    def is_close(self, precision: float) -> bool:
        return self.met > 0 and self.missed <= self.met * (1 + precision)


def find_max(run: Run, start_rate: float, *, max_trials: int, precision: float) -> Search:
    """
    Args:
        start_rate: of the first trial, in requests a second.
        max_trials: runs at most.
        precision: of the rate: the one that missed the objectives is above the one that met them by so much at most.
    """
    search, rate = Search(), start_rate
    while not search.is_close(precision):
        found = _tried(run, rate, max_trials, search)
        if found is None:
            return search
        result, verdict, meets = found
        if meets:
            search.met, search.is_shown = rate, verdict == "pass"
            search.best = _better(result, search.best)
        else:
            search.missed, search.is_missed_shown = rate, verdict == "fail"
            search.missed_by = "generator" if result["verdict"] == "invalid" else "objectives"
        rate = search.next_rate(rate)
    search.stopped = "precision"
    return search


def _better(result: Result, best: Result | None) -> Result:
    good = result["total"]["good_audio_s_per_s"]
    return result if best is None or good >= best["total"]["good_audio_s_per_s"] else best


def _tried(run: Run, rate: float, max_trials: int, search: Search) -> tuple[Result, Verdict, bool] | None:
    """One rate, as often as it takes to tell; None: no trials are left."""
    lines: list[Lines] = []
    result: Result | None = None
    verdict: Verdict = "unresolved"
    for attempt in range(TRIES):
        if len(search.trials) == max_trials:
            break
        result = run(rate, attempt)
        search.trials.append(_trial(rate, result))
        if result["verdict"] == "invalid":
            continue
        lines.append(result["objectives"])
        verdict = (
            "fail" if result["broken_promises"] else worst([share.verdict(least) for share, least in pooled(lines)])
        )
        if verdict != "unresolved":
            break
    if result is None:
        return None
    if not lines:
        return result, "unresolved", False
    as_it_looks = all(share.value is None or share.value >= least for share, least in pooled(lines))
    return result, verdict, verdict == "pass" or (verdict == "unresolved" and as_it_looks)


def pooled(runs: Sequence[Lines]) -> list[tuple[Share, float]]:
    """Events of several runs together, and the objective, for each tier and service level."""
    counts: dict[tuple[str, str], tuple[int, int, float]] = {}
    for lines in runs:
        for line in lines:
            good, total, _ = counts.get((line["tier"], line["sli"]), (0, 0, 0.0))
            counts[line["tier"], line["sli"]] = (good + line["good"], total + line["total"], line["objective"])
    return [(Share(good, total), objective) for good, total, objective in counts.values()]


def _trial(rate: float, result: Result) -> dict[str, Any]:
    total = result["total"]
    names = ("offered_audio_s_per_s", "audio_s_per_s", "good_audio_s_per_s", "sent", "completed", "refused")
    ttfa = total["ttfa_s"] or {}
    return {
        "rate": round(rate, 4),
        **{name: total[name] for name in names},
        "ttfa_s": {name: ttfa.get(name) for name in ("p50", "p95", "p99")},
        "stall_free": total["stall_free"]["share"],
        "missed": [f"{line['tier']} {line['sli']}" for line in result["objectives"] if line["verdict"] == "fail"],
        "verdict": result["verdict"],
    }
