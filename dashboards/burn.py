"""Multi-window multi-burn-rate alerts, when they fire, and which of them never could.

After "Alerting on SLOs" in Google's Site Reliability Workbook: both a long and a short window must burn the budget
faster than the factor. The long one proves that it matters, the short one ends the alert soon after the fault.
"""

from __future__ import annotations

from collections.abc import Iterator

from dashboards.document import SloFileError
from dashboards.durations import seconds
from dashboards.openslo import BurnAlert, Slo, Specification
from dashboards.promql import matched, number, percent
from dashboards.recording import bad_series, ratio_series, slo_id, slo_labels
from dashboards.rules import AlertingRule, Group
from dashboards.timescale import TimeScale


def alert_stem(slo: Slo) -> str:
    """What the names of an SLI's alerts begin with: ``TuttiTimeToFirstAudio``."""
    sli = slo.title.partition(",")[0]
    return "Tutti" + "".join(word[:1].upper() + word[1:] for word in sli.split())


def burn_name(slo: Slo) -> str:
    """Of the alerts on an SLI's budget, in all tiers and windows."""
    return f"{alert_stem(slo)}BudgetBurn"


def burning_share(slo: Slo, alert: BurnAlert) -> float:
    """Share of bad events above which both windows burn too fast."""
    return alert.factor * slo.budget


def detection_s(slo: Slo, alert: BurnAlert, bad_share: float = 1.0) -> float | None:
    """Seconds of a fault until the alert fires, if traffic is even and all was well before; None if it never does.

    Prometheus adds the time to the next scrape and the next evaluation.
    """
    share = burning_share(slo, alert) / bad_share
    return None if share >= 1 else share * seconds(alert.long_window)


def check_reachable(specification: Specification) -> None:
    """
    Raises:
        SloFileError: an alert would stay silent even if every request were bad.
    """
    for slo in specification.slos:
        for alert in slo.alerts:
            if detection_s(slo, alert) is None:
                share = percent(burning_share(slo, alert))
                raise SloFileError(
                    f"SLO {slo.name}: alert policy {alert.name} can never fire: {number(alert.factor)} times a budget "
                    f"of {percent(slo.budget)} is {share} of all events. Raise the objective above "
                    f"{percent(1 - 1 / alert.factor)}, or take the policy out of spec.alertPolicies."
                )


def burn_expression(specification: Specification, slo: Slo, alert: BurnAlert) -> str:
    """Both windows burn, and more than a handful of requests were hurt."""
    identity = slo_id(specification, slo)
    limit = f"> {number(alert.factor)} * {number(slo.budget)}"
    long_ratio, short_ratio = (
        matched(ratio_series(window), sloth_id=identity) for window in (alert.long_window, alert.short_window)
    )
    bad = matched(bad_series(alert.long_window), sloth_id=identity)
    return (
        f"{long_ratio} {limit}\n"
        f"and ignoring (sloth_window) {short_ratio} {limit}\n"
        f"and ignoring (sloth_window) {bad} >= {alert.minimum_bad_events}"
    )


def alert_groups(specification: Specification, scale: TimeScale, runbooks: str) -> Iterator[Group]:
    """A group for each alert policy, and one for service levels that are not measured.

    Args:
        runbooks: address of the folder of runbook pages, without a slash at its end.
    """
    check_reachable(specification)
    for alert in specification.alerts:
        slos = [slo for slo in specification.slos if alert in slo.alerts]
        rules = tuple(_burn_rule(specification, slo, alert, runbooks) for slo in slos)
        yield Group(f"alerts-{alert.name}", scale.scrape_s, rules)
    one_per_sli = {slo.sli: slo for slo in specification.slos}.values()
    yield Group("alerts-absent", scale.scrape_s, tuple(_absent_rule(slo, scale, runbooks) for slo in one_per_sli))


def _burn_rule(specification: Specification, slo: Slo, alert: BurnAlert, runbooks: str) -> AlertingRule:
    name = burn_name(slo)
    severity = {"severity": alert.severity, "sloth_severity": alert.severity}
    window = {"burn": alert.name, "long_window": alert.long_window}
    return AlertingRule(
        alert=name,
        expression=burn_expression(specification, slo, alert),
        labels={**slo_labels(specification, slo), **severity, **window},
        annotations={
            "summary": f"{slo.title}: the error budget burns over {number(alert.factor)} times too fast",
            "description": (
                f"{{{{ $value | humanizePercentage }}}} of the events of the last {alert.long_window} were bad; "
                f"{percent(slo.budget)} may be, over {slo.window}. {slo.description}"
            ),
            "runbook_url": f"{runbooks}/{name}.md",
        },
    )


def absent_name(slo: Slo) -> str:
    """Of the alert that an SLI is not measured."""
    return f"{alert_stem(slo)}Absent"


def absent_expression(slo: Slo) -> str:
    """No ingress tells anything about the SLI, of whatever tier."""
    metric = slo.total.partition("{")[0]
    return f"absent({matched(metric, sli=slo.sli)})"


def _absent_rule(slo: Slo, scale: TimeScale, runbooks: str) -> AlertingRule:
    name = absent_name(slo)
    return AlertingRule(
        alert=name,
        expression=absent_expression(slo),
        labels={"sli": slo.sli, "severity": "ticket", "sloth_severity": "ticket"},
        annotations={
            "summary": f"{slo.title.partition(',')[0]} is not measured",
            "description": f"No target has told a series with sli={slo.sli} for ten minutes: its alerts are blind.",
            "runbook_url": f"{runbooks}/{name}.md",
        },
        after_s=scale.wait(600),
    )
