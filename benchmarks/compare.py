"""Has the engine become slower? Ratios of this run against those of an earlier one, never seconds.

A ratio to a peer and a share of the ceiling are taken within one run, so that a slow machine, or a busy one, weighs on
both of their sides; of each side the fastest run counts, since others on the machine can only slow it down. What
remains is noise, and the tolerance is what the noise can do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.errors import TuttiError

TOLERANCE = 0.2
"""Of the baseline's ratio. Two runs of ``tiny`` on two cores, one beside tests, differed by 0.07 at most."""


class NotComparableError(TuttiError):
    """Two runs of unlike things."""


@dataclass(frozen=True, slots=True)
class Fall:
    """A ratio that has fallen too far."""

    workload: str
    ratio: str
    before: float
    now: float


def read_baseline(path: Path) -> dict[str, Any]:
    """The JSON line of an earlier run.

    Raises:
        NotComparableError: that is not what the file holds.
        OSError: it can not be read.
    """
    try:
        baseline = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise NotComparableError(f"{path} is no JSON: {error}; write one with --json {path}") from error
    if not isinstance(baseline, dict) or baseline.get("benchmark") != "engine" or "runs" not in baseline:
        raise NotComparableError(f"{path} is no result of 'tutti bench engine'; write one with --json {path}")
    return baseline


def falls(baseline: Mapping[str, Any], result: Mapping[str, Any], tolerance: float = TOLERANCE) -> list[dict[str, Any]]:
    """Ratios of the baseline that this run is below by more than the tolerance.

    Raises:
        NotComparableError: another model, format, machine or workload, or a peer of the baseline is missing.
    """
    for name, before, now in _identity(baseline, result):
        if before != now:
            raise NotComparableError(f"the baseline's {name} is {before!r}, this run's {now!r}: nothing to compare")
    now_by_name = dict(_ratios(result))
    fallen = []
    for key, before in _ratios(baseline):
        if key not in now_by_name:
            raise NotComparableError(f"the baseline has {key[1]} of {key[0]}, this run has not: give the same --peers")
        if now_by_name[key] < before * (1 - tolerance):
            fallen.append(asdict(Fall(*key, before=before, now=now_by_name[key])))
    return fallen


def comparison(
    baseline: Mapping[str, Any], fallen: Sequence[Mapping[str, Any]], tolerance: float = TOLERANCE
) -> list[str]:
    """Lines for people."""
    count = len(list(_ratios(baseline)))
    if not fallen:
        return ["", f"Against the baseline: {count} ratios, none has fallen by more than {tolerance:.0%}"]
    return [
        "",
        f"Against the baseline: {len(fallen)} of {count} ratios have fallen by more than {tolerance:.0%}",
        *(f"  {each['workload']}: {each['ratio']} was {each['before']:.3g}, is {each['now']:.3g}" for each in fallen),
    ]


def _identity(baseline: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[tuple[str, object, object]]:
    """What must be the same for ratios to be the same: on other instructions, other sides gain."""
    for section, key in (
        ("model", "parameters"),
        ("model", "weights"),
        ("settings", "duration"),
        ("machine", "device"),
        ("machine", "capability"),
        ("machine", "threads"),
    ):
        yield f"{section}.{key}", baseline[section][key], result[section][key]
    yield "schema", baseline["schema"], result["schema"]


def _ratios(result: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], float]]:
    """((workload, name), value) of everything that should not fall."""
    for run in result["runs"]:
        yield (run["workload"], "share of the ceiling"), run["best_share_of_ceiling"]
        for name, peer in run["peers"].items():
            if "best_ratio" in peer:
                yield (run["workload"], f"ratio to {name}"), peer["best_ratio"]
