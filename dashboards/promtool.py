"""Tests of the rules for ``promtool test rules``: each alert fires in its computed time, stays silent, clears."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from dashboards.burn import burning_share, detection_s
from dashboards.durations import duration, seconds
from dashboards.openslo import BurnAlert, Slo, Specification
from dashboards.promql import number
from dashboards.recording import ratio_series
from dashboards.timescale import TimeScale

EVENTS = 100_000
"""Events per step of a busy tier: enough for a share of 0.01 % to be whole events."""
_STEPS = {"5m": 20}
_SHORT_STEPS = 10


@dataclass(frozen=True, slots=True)
class Phase:
    """So many steps with so many good and bad events in each."""

    steps: int
    good: int
    bad: int


@dataclass(frozen=True, slots=True)
class Pace:
    """How one alert's windows are cut into steps.

    Attributes:
        step_s: between two samples, already scaled.
        short: steps of the short window.
        long: steps of the long window.
    """

    step_s: float
    short: int
    long: int

    @classmethod
    def of(cls, alert: BurnAlert, scale: TimeScale) -> Pace:
        short = _STEPS.get(alert.short_window, _SHORT_STEPS)
        step_s = seconds(alert.short_window) / short
        return cls(step_s / scale.factor, short, round(seconds(alert.long_window) / step_s))

    def at(self, step: int) -> str:
        """The time of a step as promtool writes it."""
        return duration(step * self.step_s)


def promtool_tests(specification: Specification, scale: TimeScale) -> Iterator[tuple[str, dict[str, Any]]]:
    """Path and content of a file for each alert policy."""
    for alert in specification.alerts:
        slos = [slo for slo in specification.slos if alert in slo.alerts]
        pace = Pace.of(alert, scale)
        groups = [f"slo-{alert.short_window}", f"slo-{alert.long_window}", f"alerts-{alert.name}"]
        tests = [_outage(slos, alert, pace), _almost(slos, alert, pace), _few(slos, alert, pace)]
        yield (
            f"rules/tests/{alert.name}.yml",
            {
                "rule_files": [f"../{group}.yml" for group in groups],
                "evaluation_interval": duration(pace.step_s),
                "group_eval_order": groups,
                "tests": tests,
            },
        )


def _outage(slos: list[Slo], alert: BurnAlert, pace: Pace) -> dict[str, Any]:
    """All is well for the long window, then every event is bad until the last alert has fired, then all is well."""
    begin = pace.long + pace.short
    needed = {slo.name: int((detection_s(slo, alert) or 0) / seconds(alert.long_window) * pace.long) for slo in slos}
    end = begin + max(needed.values()) + 1
    cleared = end + pace.short
    phases = [Phase(begin, EVENTS, 0), Phase(end - begin, 0, EVENTS), Phase(cleared - end, EVENTS, 0)]
    checks = [_firing(slos, alert, pace.at(begin), fires=False)]
    for steps, group in groupby(sorted(slos, key=lambda slo: (needed[slo.name], slo.name)), lambda s: needed[s.name]):
        same = list(group)
        if steps > 1:
            checks.append(_firing(same, alert, pace.at(begin + steps - 1), fires=False))
        checks.append(_firing(same, alert, pace.at(begin + steps + 1), fires=True))
    checks.append(_firing(slos, alert, pace.at(cleared), fires=False))
    # That it clears is the short window's work: the long one still burns.
    checks.append(_long_burns(slos[0], alert, pace.at(cleared)))
    series = counters(slos, phases)
    return _test("an outage of everything: fires in the computed time, and clears", series, checks, pace)


def _almost(slos: list[Slo], alert: BurnAlert, pace: Pace) -> dict[str, Any]:
    """Nine tenths of what the alert allows are bad, evenly: then every window says the same, however long it is."""
    steps = 2 * pace.short
    series: list[dict[str, str]] = []
    for slo in slos:
        bad = int(EVENTS * burning_share(slo, alert) * 0.9)
        series += counters([slo], [Phase(steps, EVENTS - bad, bad)])
    checks = [_firing(slos, alert, pace.at(step), fires=False) for step in (pace.short, steps)]
    return _test("just below the limit: silent", series, checks, pace)


def _few(slos: list[Slo], alert: BurnAlert, pace: Pace) -> dict[str, Any]:
    """Nobody came but a few, and all of them were hurt: one below the floor is silent, two above it are not."""
    below, rest = alert.minimum_bad_events - 1, 3
    phases = [Phase(2, 0, 0), Phase(below, 0, 1), Phase(1, 0, 0), Phase(rest, 0, 1)]
    done = sum(phase.steps for phase in phases)
    checks = [
        _firing(slos, alert, pace.at(done - rest), fires=False),
        _firing(slos, alert, pace.at(done), fires=True),
    ]
    return _test("few requests, all bad: silent below the floor", counters(slos, phases), checks, pace)


def _test(name: str, series: list[dict[str, str]], checks: list[dict[str, Any]], pace: Pace) -> dict[str, Any]:
    return {
        "name": name,
        "interval": duration(pace.step_s),
        "input_series": series,
        "promql_expr_test": checks,
    }


def counters(slos: Iterable[Slo], phases: list[Phase]) -> list[dict[str, str]]:
    """Input series of the events of some SLOs, to all of whom the same happens."""
    return [
        {
            "series": _instance(slo, result),
            "values": counter([(phase.steps, getattr(phase, result)) for phase in phases]),
        }
        for slo in slos
        for result in ("good", "bad")
    ]


def _instance(slo: Slo, result: str) -> str:
    return slo.total.removesuffix("}") + f',model="tiny",mode="stream",result="{result}"}}'


def counter(phases: Iterable[tuple[int, int]]) -> str:
    """A counter's samples as promtool writes them, 0 first: for each phase its steps and the events in each."""
    parts, value = ["0"], 0
    for steps, events in phases:
        parts.append(f"{value + events}+{events}x{steps - 1}")
        value += steps * events
    return " ".join(parts)


def _firing(slos: list[Slo], alert: BurnAlert, time: str, *, fires: bool) -> dict[str, Any]:
    names = "|".join(slo.name for slo in slos)
    expression = f'count(ALERTS{{burn="{alert.name}",alertstate="firing",sloth_slo=~"{names}"}})'
    expected = [{"labels": "{}", "value": len(slos)}] if fires else []
    return {"expr": expression, "eval_time": time, "exp_samples": expected}


def _long_burns(slo: Slo, alert: BurnAlert, time: str) -> dict[str, Any]:
    limit = number(burning_share(slo, alert))
    expression = f'count({ratio_series(alert.long_window)}{{sloth_slo="{slo.name}"}} > {limit})'
    return {"expr": expression, "eval_time": time, "exp_samples": [{"labels": "{}", "value": 1}]}
