"""A few alerts on causes: what hurts before listeners feel it, or while nobody asks.

The names of metrics are those of ``api.telemetry.catalogue``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dashboards.objectives import Objectives
from dashboards.openslo import Severity
from dashboards.promql import number
from dashboards.rules import AlertingRule, Group
from dashboards.timescale import TimeScale

JOB = "tutti"
"""Of all targets of the platform in ``prometheus.yml``."""


@dataclass(frozen=True, slots=True)
class Cause:
    """An alert on a cause.

    Attributes:
        after_s: how long it must last.
        description: without templates, for runbooks show it too.
        labels: besides the severity.
    """

    name: str
    severity: Severity
    after_s: float
    expression: str
    summary: str
    description: str
    labels: tuple[tuple[str, str], ...] = ()


def causes(promised: Objectives, scale: TimeScale) -> Iterator[Cause]:
    """All of them."""
    steps = f"rate(tutti_engine_steps_total[{scale.window('2m')}])"
    yield Cause(
        "TuttiDown", "page", 60,
        f'(sum(up{{job="{JOB}",role="ingress"}}) or vector(0)) == 0',
        "Tutti answers nobody",
        "No ingress of the platform could be scraped, or none is known. With nobody served there are no events either: "
        "the alerts on service levels are silent.",
    )  # fmt: skip
    yield Cause(
        "TuttiTargetDown", "ticket", 300,
        f'up{{job="{JOB}"}} == 0',
        "{{ $labels.role }} {{ $labels.instance }} cannot be scraped",
        "Prometheus gets no metrics from it; what it does is missing from every figure, service levels included.",
    )  # fmt: skip
    yield Cause(
        "TuttiEngineStalled", "page", 60,
        f'tutti_engine_rows{{state="active"}} > 0 and ignoring (state) {steps} == 0',
        "{{ $labels.instance }} makes no progress with {{ $value }} rows of {{ $labels.model }}",
        "An engine has active rows and has made no step for two minutes.",
    )  # fmt: skip
    yield from _backlogs(promised)
    yield Cause(
        "TuttiRulesFail", "ticket", 300,
        f"increase(prometheus_rule_evaluation_failures_total[{scale.window('5m')}]) > 0",
        "Prometheus cannot evaluate {{ $labels.rule_group }}",
        "Its alerts may be silent. The log of Prometheus says which expression fails.",
    )  # fmt: skip


def _backlogs(promised: Objectives) -> Iterator[Cause]:
    """Tiers are served in strict order, so a tier waits for its own work and for all above it."""
    for place, tier in enumerate(promised.tiers, start=1):
        base_s = promised.deadlines[tier][0]
        ahead = "|".join(promised.tiers[:place])
        waiting = f'max by (model, tier) (tutti_engine_backlog_audio_seconds{{state="queued",tier=~"{ahead}"}})'
        capacity = "sum by (model) (tutti_engine_capacity_audio_seconds_per_second) > 0"
        yield Cause(
            "TuttiBacklogBeyondPromise", "ticket", 300,
            f"sum by (model) ({waiting}) / ({capacity}) > {number(base_s)}",
            f"{{{{ $labels.model }}}} for {tier} waits {{{{ $value | humanizeDuration }}}}, over {number(base_s)} s",
            "With the engines there are, the work that waits for this tier and those above it takes longer than jobs "
            "may take, beside the time for their music.",
            (("tier", tier),),
        )  # fmt: skip


def cause_groups(promised: Objectives, scale: TimeScale, runbooks: str) -> Iterator[Group]:
    """One group.

    Args:
        runbooks: address of the folder of runbook pages, without a slash at its end.
    """
    rules = tuple(_rule(cause, scale, runbooks) for cause in causes(promised, scale))
    yield Group("causes", scale.scrape_s, rules)


def _rule(cause: Cause, scale: TimeScale, runbooks: str) -> AlertingRule:
    return AlertingRule(
        alert=cause.name,
        expression=cause.expression,
        labels={**dict(cause.labels), "severity": cause.severity, "sloth_severity": cause.severity},
        annotations={
            "summary": cause.summary,
            "description": cause.description,
            "runbook_url": f"{runbooks}/{cause.name}.md",
        },
        after_s=scale.wait(cause.after_s),
    )
