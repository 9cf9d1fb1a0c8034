"""The table of detection times: how long a fault lasts before its alert fires, by formula."""

from __future__ import annotations

from collections.abc import Iterator

from dashboards.burn import detection_s
from dashboards.openslo import BurnAlert, Slo, Specification
from dashboards.promql import number, percent


def told(slo: Slo, alert: BurnAlert, bad_share: float = 1.0) -> str:
    """A detection time as people say it."""
    length_s = detection_s(slo, alert, bad_share)
    if length_s is None:
        return "never"
    for unit_s, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if length_s >= unit_s:
            return f"{number(round(length_s / unit_s, 1))} {unit}"
    return f"{number(round(length_s, 1))} s"


def detection_table(specification: Specification) -> str:
    """Markdown: objectives down, alerts across, for an outage of everything and of a tenth."""
    alerts = specification.alerts
    head = " | ".join(
        f"{alert.name} ({number(alert.factor)}×, {alert.long_window}/{alert.short_window})" for alert in alerts
    )
    return "\n".join((f"| objective | bad | {head} |", "|---|---|" + "---|" * len(alerts), *_rows(specification)))


def _rows(specification: Specification) -> Iterator[str]:
    kinds = {(slo.objective, tuple(alert.name for alert in slo.alerts)): slo for slo in specification.slos}
    for (objective, _), slo in sorted(kinds.items(), reverse=True, key=lambda item: item[0][0]):
        for share in (1.0, 0.1):
            cells = (told(slo, alert, share) if alert in slo.alerts else "none" for alert in specification.alerts)
            yield f"| {percent(objective)} | {percent(share)} | {' | '.join(cells)} |"
