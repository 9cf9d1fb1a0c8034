"""A run's figures, taken from Prometheus and held against what the clients saw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from api.telemetry.catalogue import metric
from dashboards.burn import burn_name, burning_share, detection_s
from dashboards.durations import seconds
from dashboards.openslo import BurnAlert, Slo, Specification, load_specification
from dashboards.preview.prometheus import Prometheus
from dashboards.timescale import TimeScale
from tests.slo import checker, panels, readings
from tests.slo.checker import Alert, Check, Fault
from tests.slo.faults import Phase
from tests.slo.report import Detection, Report
from tests.slo.servers import Monitoring
from tests.slo.truth import Burn, Event, Heard, Promise, Span, events

SLIS = ("ttfa", "continuity", "success", "admission", "deadline")
"""Whose truth a client can tell."""
QUANTILES = (0.5, 0.95, 0.99)
MOST_LAG_S = 0.05
"""A client that is later than this with one request in a hundred measures itself."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A fault that was injected."""

    phase: Phase
    span: Span


@dataclass(frozen=True, slots=True)
class Run:
    """What a run did. Unix seconds.

    Attributes:
        quiet: before the first fault.
        busy_until: the end of the load, when there was still something to see.
        lag_s: how late requests were sent.
    """

    start: float
    busy_until: float
    end: float
    quiet: Span
    broken: Sequence[Broken]
    heard: Sequence[Heard]
    lag_s: Sequence[float]
    rate: float


def judge(done: Run, seen: Monitoring) -> Report:
    """Everything that is looked at."""
    scale, specification = seen.scale, load_specification()
    slack_s = slack(scale)
    truth = {(slo.sli, slo.tier): events(_promise(slo), done.heard) for slo in specification.slos if slo.sli in SLIS}
    with Prometheus(seen.prometheus) as server:
        fired = readings.firing(server, done.start, done.end, scale.scrape_s)
        watched = list(_alerts(specification, truth, fired, done, scale))
        injected = list(_faults(specification, truth, watched, done, scale))
        checks = [
            *checker.counters(done.heard, readings.requests(server, done.start, done.end)),
            *_quantiles(server, done),
            *checker.levels(truth, readings.levels(server, done.start, done.end)),
            *checker.quiet(fired, done.quiet),
            *checker.faults([fault for fault, _ in injected], slack_s),
            *checker.alerts(watched, slack_s),
            *_causes(fired, watched, done, slack_s),
            *_paged(seen, done),
            *(panels.check(server, each, done.start, done.busy_until, scale.scrape_s) for each in panels.queries()),
            _generator(done),
        ]
    return Report(
        factor=scale.factor,
        rate=done.rate,
        seconds=done.end - done.start,
        requests=len(done.heard),
        phases=tuple(broken.phase.name for broken in done.broken),
        detections=tuple(detection for _, detection in injected),
        checks=tuple(checks),
    )


def slack(scale: TimeScale) -> float:
    """By how much Prometheus may be late: a scrape, rules on rules at their own intervals, and its estimate of the
    edges of a window, which may be off by a scrape on either side."""
    return 5 * scale.scrape_s + 1.0


def _promise(slo: Slo) -> Promise:
    if slo.deadline is not None:
        return Promise(slo.sli, slo.tier, *slo.deadline)
    return Promise(slo.sli, slo.tier, slo.threshold_s or 0.0)


def _burn(slo: Slo, alert: BurnAlert, scale: TimeScale) -> Burn:
    long_s, short_s = (seconds(window) / scale.factor for window in (alert.long_window, alert.short_window))
    return Burn(burning_share(slo, alert), long_s, short_s, alert.minimum_bad_events)


def _name(slo: Slo, alert: BurnAlert) -> str:
    return readings.alert_of({"alertname": burn_name(slo), "tier": slo.tier, "burn": alert.name})


def _alerts(
    specification: Specification,
    truth: Mapping[tuple[str, str], list[Event]],
    fired: Mapping[str, Sequence[Span]],
    done: Run,
    scale: TimeScale,
) -> Iterator[Alert]:
    for slo in specification.slos:
        if (slo.sli, slo.tier) not in truth:
            continue
        for alert in slo.alerts:
            due = _burn(slo, alert, scale).spans(truth[slo.sli, slo.tier], done.start, done.end, scale.scrape_s)
            yield Alert(_name(slo, alert), fired.get(_name(slo, alert), ()), due)


def _faults(
    specification: Specification,
    truth: Mapping[tuple[str, str], list[Event]],
    watched: Sequence[Alert],
    done: Run,
    scale: TimeScale,
) -> Iterator[tuple[Fault, Detection]]:
    """Of each fault the fastest page of the service level that it breaks."""
    ends = [*(broken.span.start for broken in done.broken[1:]), done.end]
    for broken, until in zip(done.broken, ends, strict=False):
        span = Span(broken.span.start, until)
        slo = next(slo for slo in specification.slos if (slo.sli, slo.tier) == (broken.phase.sli, broken.phase.tier))
        alert = min(slo.alerts, key=lambda each: seconds(each.long_window))
        seen = [event for event in truth[slo.sli, slo.tier] if span.start <= event.at <= span.end]
        found = next(each for each in watched if each.name == _name(slo, alert))
        mine = [each for each in found.fired if each.near(span, 0.0) and each.start >= span.start - slack(scale)]
        due = [each for each in found.due if each.near(span, 0.0)]
        bad = [event.at for event in seen if event.is_bad]
        last_bad = max(bad, default=span.start)
        short_s = seconds(alert.short_window) / scale.factor
        fault = Fault(broken.phase.name, broken.span, found.name, mine, due, short_s, last_bad)
        first_s = bad[0] - span.start if bad else None
        share = len(bad) / sum(bad[0] <= event.at <= last_bad for event in seen) if bad else 0.0
        formula = detection_s(slo, alert, share) if bad else None
        detection = Detection(
            fault=broken.phase.name,
            alert=found.name,
            first_bad_s=first_s,
            bad_share=share,
            formula_s=None if formula is None or first_s is None else first_s + formula / scale.factor,
            computed_s=due[0].start - span.start if due else None,
            fired_s=mine[0].start - span.start if mine else None,
            cleared_s=mine[-1].end - broken.span.end if mine else None,
        )
        yield fault, detection


def _causes(
    fired: Mapping[str, Sequence[Span]], watched: Sequence[Alert], done: Run, slack_s: float
) -> Iterator[Check]:
    """Of the alerts on causes only those that a fault explains."""
    known = {alert.name for alert in watched}
    for name, spans in sorted(fired.items()):
        if name in known:
            continue
        explained = [
            Span(broken.span.start, broken.span.end + 30.0)
            for broken in done.broken
            if name.partition(" ")[0] in broken.phase.also
        ]
        strangers = [span for span in spans if not any(span.near(each, slack_s) for each in explained)]
        yield Check(
            "alerts", name, "with a fault that explains it", "with one" if not strangers else "alone", not strangers
        )


def _paged(seen: Monitoring, done: Run) -> Iterator[Check]:
    """What fired has come through Alertmanager to whoever is on call, and the end of it as well."""
    for broken in done.broken:
        mine = [
            (told, state)
            for at, told, state, labels in list(seen.pager.told)
            if at >= broken.span.start
            and (labels.get("sli"), labels.get("tier")) == (broken.phase.sli, broken.phase.tier)
        ]
        for state in ("firing", "resolved"):
            came = ("page", state) in mine
            yield Check("faults", f"{broken.phase.name}: page {state}", "a call", "a call" if came else "none", came)


def _quantiles(server: Prometheus, done: Run) -> list[Check]:
    """Of what has the same beginning and end on both sides: the listeners' time to first audio."""
    name = "tutti_time_to_first_audio_seconds"
    checks = []
    for what, span in (("all", Span(done.start, done.end)), ("without a fault", done.quiet)):
        values = [one.first_audio_s for one in done.heard if one.ended_at <= span.end and one.first_audio_s is not None]
        told = readings.quantiles(server, name, "", QUANTILES, span.start, span.end)
        checks += checker.quantiles(f"time to first audio, {what},", values, told, metric(name).buckets)
    return checks


def _generator(done: Run) -> Check:
    lag_s = float(np.quantile(done.lag_s, 0.99)) if done.lag_s else 0.0
    wanted = f"p99 of being late at most {1000 * MOST_LAG_S:g} ms"
    return Check("load", "the clients are on time", wanted, f"{1000 * lag_s:.1f} ms", lag_s <= MOST_LAG_S)
