"""Runbook pages: one per alert, its figures from ``slo.yaml`` and its words from ``advice.yaml``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dashboards.advice import Advice, Advices
from dashboards.burn import absent_expression, absent_name, burn_expression, burn_name, burning_share
from dashboards.causes import Cause
from dashboards.detection import told
from dashboards.durations import duration
from dashboards.openslo import Slo, Specification
from dashboards.promql import increase, number, percent, ratio

MADE = "<!-- Made by `tutti slo build` from slo.yaml and advice.yaml: change those. -->"


def runbook_pages(specification: Specification, causes: Iterable[Cause], advices: Advices) -> Iterator[tuple[str, str]]:
    """Name of each alert, and its page in Markdown."""
    for sli in specification.slis:
        slos = [slo for slo in specification.slos if slo.sli == sli]
        yield burn_name(slos[0]), _burn_page(specification, slos, advices.slis[sli])
        yield absent_name(slos[0]), _absent_page(slos[0], advices.absent)
    by_name: dict[str, list[Cause]] = {}
    for cause in causes:
        by_name.setdefault(cause.name, []).append(cause)
    for name, same in by_name.items():
        yield name, _cause_page(same, advices.causes[name])


def _burn_page(specification: Specification, slos: list[Slo], advice: Advice) -> str:
    first = slos[0]
    promised = "\n".join(f"| {slo.tier} | {percent(slo.objective)} | {_threshold(slo)} |" for slo in slos)
    windows = "\n".join(_window_rows(slos))
    example = burn_expression(specification, first, first.alerts[0])
    return _page(
        burn_name(first),
        advice,
        f"{_sli_title(first)}: {first.description}\n\n"
        f"| tier | promised, over {specification.window} | a request is good |\n|---|---|---|\n{promised}",
        "The share of bad events, divided by what the objective allows, is how many times too fast the budget goes. An "
        "alert wants both windows to burn: the long one proves that it matters, the short one ends it soon after the "
        "fault. Without a handful of bad events in the long window nobody is told.\n\n"
        "| alert | severity | tier | fires above | in both windows | bad events, at least | all bad: fires after |\n"
        f"|---|---|---|---|---|---|---|\n{windows}\n\n"
        f"While a page fires, Alertmanager keeps the ticket of the same objective silent.",
        (
            ("What it looks at, here for the first row", example),
            ("Share of bad events by model over the last hour", _by_model(first, "1h")),
            ("Budget left, by tier", f'slo:period_error_budget_remaining:ratio{{sli="{first.sli}"}}'),
            (
                "How fast it burns now, by tier; 1 is just sustainable",
                f'slo:current_burn_rate:ratio{{sli="{first.sli}"}}',
            ),
        ),
    )


def _window_rows(slos: list[Slo]) -> Iterator[str]:
    for slo in slos:
        for alert in slo.alerts:
            share = percent(round(burning_share(slo, alert), 6))
            cells = (
                alert.name, alert.severity, slo.tier, f"{share} bad", f"{alert.long_window} and {alert.short_window}",
                str(alert.minimum_bad_events), told(slo, alert),
            )  # fmt: skip
            yield f"| {' | '.join(cells)} |"


def _by_model(slo: Slo, window: str) -> str:
    def by_model(selector: str) -> str:
        return increase(selector, window).replace("sum(", "sum by (model, tier) (", 1)

    metric = slo.total.partition("{")[0]
    return ratio(by_model(f'{metric}{{sli="{slo.sli}",result="bad"}}'), by_model(f'{metric}{{sli="{slo.sli}"}}'))


def _absent_page(slo: Slo, advice: Advice) -> str:
    return _page(
        absent_name(slo),
        advice,
        f'No target tells a series of `{slo.total.partition("{")[0]}` with `sli="{slo.sli}"`. {_sli_title(slo)} is not '
        "measured, in any tier.",
        f"It burns unseen: {burn_name(slo)} is silent while there are no events. Severity: ticket, after ten minutes.",
        (
            ("What it looks at", absent_expression(slo)),
            ("Targets of the platform, and whether they answer", 'up{job="tutti"}'),
        ),
    )


def _cause_page(same: list[Cause], advice: Advice) -> str:
    return _page(
        same[0].name,
        advice,
        same[0].description,
        f"Not by itself: this is a cause, told before or beside the alerts on service levels. Severity: "
        f"{same[0].severity}, after {duration(same[0].after_s)}.",
        tuple((f"What it looks at{_of(cause)}", cause.expression) for cause in same),
    )


def _of(cause: Cause) -> str:
    return "".join(f", {name} {value}" for name, value in cause.labels)


def _page(name: str, advice: Advice, what: str, burn: str, queries: Iterable[tuple[str, str]]) -> str:
    steps = "\n".join(f"{place}. {step}" for place, step in enumerate(advice.first, start=1))
    causes = "\n".join(f"- **{cause}**: {tell}" for cause, tell in advice.causes)
    shown = "\n\n".join(f"{title}:\n\n```promql\n{query}\n```" for title, query in queries)
    return (
        f"{MADE}\n# {name}\n\n{what}\n\n## What it means\n\n{advice.means}\n\n## First\n\n{steps}\n\n"
        f"## Likely causes\n\n{causes}\n\n## How the budget burns\n\n{burn}\n\n## Queries\n\n{shown}\n\n"
        f"## Dashboards\n\n{', '.join(advice.look)}.\n"
    )


def _threshold(slo: Slo) -> str:
    if slo.threshold_s is not None:
        return f"up to {number(slo.threshold_s)} s"
    if slo.deadline is not None:
        return f"up to {number(slo.deadline[0])} s and {number(slo.deadline[1])} s for each second of audio"
    return "or it is not"


def _sli_title(slo: Slo) -> str:
    return slo.title.partition(",")[0]
