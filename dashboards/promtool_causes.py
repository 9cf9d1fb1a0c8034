"""Tests for ``promtool test rules`` of the alerts without a budget: causes, and service levels not measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dashboards.burn import absent_name
from dashboards.causes import JOB
from dashboards.durations import duration
from dashboards.openslo import Specification
from dashboards.promql import matched
from dashboards.timescale import SCRAPE_S, TimeScale

_PER_MINUTE = int(60 / SCRAPE_S)


@dataclass(frozen=True, slots=True)
class Story:
    """What happens, minute by minute, and when an alert fires.

    Attributes:
        alert: its name, or a regular expression for several.
        series: each with its value, or rise per step, over minutes.
        firing: minute and how many alerts of the name fire.
    """

    name: str
    alert: str
    series: tuple[tuple[str, str], ...]
    firing: tuple[tuple[int, int], ...]

    def as_test(self, scale: TimeScale) -> dict[str, Any]:
        return {
            "name": f"{self.alert}: {self.name}",
            "interval": duration(SCRAPE_S / scale.factor),
            "input_series": [{"series": series, "values": values} for series, values in self.series],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname=~"{self.alert}",alertstate="firing"}})',
                    "eval_time": duration(minute * 60 / scale.factor),
                    "exp_samples": [{"labels": "{}", "value": count}] if count else [],
                }
                for minute, count in self.firing
            ],
        }


def steady(*spans: tuple[float, int]) -> str:
    """Samples of a gauge: each value for so many minutes."""
    return " ".join(f"{value}x{minutes * _PER_MINUTE - 1}" for value, minutes in spans)


def rising(*spans: tuple[int, int]) -> str:
    """Samples of a counter: each rise per step for so many minutes."""
    parts, value = [], 0
    for rise, minutes in spans:
        steps = minutes * _PER_MINUTE
        parts.append(f"{value}+{rise}x{steps - 1}")
        value += rise * steps
    return " ".join(parts)


def cause_tests(specification: Specification, scale: TimeScale) -> dict[str, Any]:
    """The file for causes."""
    return _file("causes.yml", scale, *_targets(), *_engines(), *_backlogs(specification), *_rules())


def absent_tests(specification: Specification, scale: TimeScale) -> dict[str, Any]:
    """The file for service levels that are not measured."""
    return _file("alerts-absent.yml", scale, *_absents(specification))


def _file(rules: str, scale: TimeScale, *stories: Story) -> dict[str, Any]:
    return {
        "rule_files": [f"../{rules}"],
        "evaluation_interval": duration(SCRAPE_S / scale.factor),
        "tests": [story.as_test(scale) for story in stories],
    }


def _targets() -> Iterator[Story]:
    first, second = (matched("up", job=JOB, role="ingress", instance=name) for name in ("a:1", "b:1"))
    engine = matched("up", job=JOB, role="engine", instance="e:1")
    yield Story(
        "all targets are lost and come back", "TuttiDown",
        tuple((ingress, steady((1, 5), (0, 5), (1, 5))) for ingress in (first, second)),
        ((5, 0), (8, 1), (12, 0)),
    )  # fmt: skip
    yield Story("there are engines and no ingress", "TuttiDown", ((engine, steady((1, 5))),), ((3, 1),))
    yield Story(
        "one of two is enough", "TuttiDown",
        ((first, steady((1, 15))), (second, steady((1, 5), (0, 10)))), ((12, 0),),
    )  # fmt: skip
    yield Story(
        "one target is lost and comes back", "TuttiTargetDown",
        ((first, steady((1, 20))), (second, steady((1, 5), (0, 8), (1, 7)))),
        ((5, 0), (9, 0), (12, 1), (15, 0)),
    )  # fmt: skip


def _engines() -> Iterator[Story]:
    name = {"model": "tiny", "instance": "a:1", "job": JOB}
    active, steps = matched("tutti_engine_rows", state="active", **name), matched("tutti_engine_steps_total", **name)
    yield Story(
        "rows are held and no step is made, then it goes on", "TuttiEngineStalled",
        ((active, steady((4, 20))), (steps, rising((200, 5), (0, 8), (200, 7)))),
        ((5, 0), (6, 0), (11, 1), (16, 0)),
    )  # fmt: skip
    yield Story(
        "nobody asks for music", "TuttiEngineStalled",
        ((active, steady((0, 20))), (steps, rising((0, 20)))), ((15, 0),),
    )  # fmt: skip


def _backlogs(specification: Specification) -> Iterator[Story]:
    """What waits for the highest tier delays all of them; as long as capacity is 1, seconds of audio are seconds."""
    bases = [slo.deadline[0] for slo in specification.slos if slo.deadline]
    capacity = matched("tutti_engine_capacity_audio_seconds_per_second", model="tiny", instance="e:1")
    queued = [
        [matched("tutti_engine_backlog_audio_seconds", model="tiny", tier=tier, state="queued", instance=worker)
         for worker in ("a:1", "b:1")]
        for tier in specification.tiers
    ]  # fmt: skip
    # Both workers tell the same of the whole platform: it counts once.
    highest = tuple((worker, steady((0, 5), (bases[0] * 1.5, 10), (0, 5))) for worker in queued[0])
    idle = tuple((worker, steady((0, 20))) for tier in queued[1:] for worker in tier)
    one = (capacity, steady((1, 20)))
    yield Story(
        "half as much again waits as may", "TuttiBacklogBeyondPromise",
        (one, *highest, *idle), ((5, 0), (9, 0), (12, 1), (17, 0)),
    )  # fmt: skip
    yield Story(
        "engines twice as fast keep the promise", "TuttiBacklogBeyondPromise",
        ((capacity, steady((2, 20))), *highest, *idle), ((12, 0),),
    )  # fmt: skip
    over_all = tuple((worker, steady((bases[-1] * 1.5, 20))) for worker in queued[0])
    yield Story(
        "so much waits above that every tier is late", "TuttiBacklogBeyondPromise",
        (one, *over_all, *idle), ((12, len(bases)),),
    )  # fmt: skip
    lowest = tuple((worker, steady((bases[-1] * 1.5, 20))) for worker in queued[-1])
    yield Story(
        "the lowest tier delays nobody above it", "TuttiBacklogBeyondPromise",
        (one, *lowest), ((12, 1),),
    )  # fmt: skip


def _rules() -> Iterator[Story]:
    failures = matched("prometheus_rule_evaluation_failures_total", job="prometheus", rule_group="alerts-ttfa")
    yield Story(
        "evaluations fail for a while", "TuttiRulesFail",
        ((failures, rising((0, 5), (1, 12), (0, 15))),), ((5, 0), (16, 1), (30, 0)),
    )  # fmt: skip


def _absents(specification: Specification) -> Iterator[Story]:
    lost = f"{steady((7, 5))} stale _x{15 * _PER_MINUTE - 1} {steady((7, 5))}"
    one_per_sli = {slo.sli: slo for slo in specification.slos}.values()
    series = tuple(
        (slo.total.removesuffix("}") + ',model="tiny",mode="stream",result="good"}', lost) for slo in one_per_sli
    )
    names = "|".join(absent_name(slo) for slo in one_per_sli)
    yield Story("the series are lost and come back", names, series, ((5, 0), (13, 0), (18, len(series)), (23, 0)))
    yield Story(
        "one of them is lost", names, (*((one, steady((7, 25))) for one, _ in series[1:]), series[0]), ((18, 1),)
    )
