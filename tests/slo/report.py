"""The report of a run: a page to read and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.slo.checker import Check

GROUPS = {
    "faults": "The right alert for each fault",
    "alerts": "Every alert against the clients' truth",
    "levels": "Service levels: share of good events",
    "counters": "Requests by tier, mode and outcome",
    "quantiles": "Latency, within one bucket",
    "panels": "Queries of the dashboards",
    "load": "The load itself",
}


@dataclass(frozen=True, slots=True)
class Detection:
    """How soon a fault was told. Seconds since the fault began (``cleared_s``: since it was mended).

    Attributes:
        first_bad_s: until the first request that it spoiled had ended.
        bad_share: of the events from the first bad one to the last.
        formula_s: from there factor × budget / share × long window: the alert's arithmetic for even traffic.
        computed_s: the same for the requests as they came and ended.
    """

    fault: str
    alert: str
    first_bad_s: float | None
    bad_share: float
    formula_s: float | None
    computed_s: float | None
    fired_s: float | None
    cleared_s: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """A run and its checks."""

    factor: float
    rate: float
    seconds: float
    requests: int
    phases: tuple[str, ...]
    detections: tuple[Detection, ...]
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


def as_markdown(report: Report) -> str:
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    failed = [check for check in report.checks if not check.passed]
    yield "# Service levels on the running platform"
    yield ""
    yield (
        f"{'Passed' if not failed else 'FAILED'}: {len(report.checks) - len(failed)} of {len(report.checks)} checks. "
        f"{report.requests} requests in {report.seconds:.0f} s, {report.rate:g} a second; windows of the rules "
        f"{report.factor:g} times shorter. Faults: {', '.join(report.phases) or 'none'}."
    )
    yield ""
    if report.detections:
        yield "| fault | alert | bad events | the first after | by the formula | as requests ended | fired | cleared |"
        yield "|---|---|---|---|---|---|---|---|"
        for one in report.detections:
            times = (one.first_bad_s, one.formula_s, one.computed_s, one.fired_s, one.cleared_s)
            told = " | ".join("–" if time is None else f"{time:.1f} s" for time in times)
            yield f"| {one.fault} | {one.alert} | {100 * one.bad_share:.0f} % | {told} |"
        yield ""
    for group, title in GROUPS.items():
        checks = [check for check in report.checks if check.group == group]
        if checks:
            yield from _table(title, checks)


def _table(title: str, checks: list[Check]) -> Iterator[str]:
    passed = sum(check.passed for check in checks)
    yield f"## {title}: {passed} of {len(checks)}"
    yield ""
    yield "| | | wanted | found |"
    yield "|---|---|---|---|"
    for check in checks:
        wanted = check.wanted if len(check.wanted) <= 90 else f"{check.wanted[:87]}…"
        cells = (each.replace("|", "\\|").replace("\n", " ") for each in (check.subject, wanted, check.found))
        yield f"| {'✓' if check.passed else '✗'} | {' | '.join(cells)} |"
    yield ""


def write(report: Report, folder: Path) -> None:
    """``slo_test.md`` and ``slo_test.json`` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "slo_test.md").write_text(as_markdown(report), encoding="utf-8")
    text = json.dumps({**asdict(report), "passed": report.passed}, indent=1, ensure_ascii=False)
    (folder / "slo_test.json").write_text(f"{text}\n", encoding="utf-8")
