"""The same service levels for Sloth and for Pyrra, which make rules of their own from them.

Shapes: Sloth's ``prometheus/v1`` (https://sloth.dev) and Pyrra's ``pyrra.dev/v1alpha1`` (https://github.com/pyrra-dev/pyrra).
Neither knows a floor for the traffic, and Sloth's 30 days are the mean of 5-minute ratios: with both, quiet hours weigh
as much as busy ones.
"""

from __future__ import annotations

from typing import Any

from dashboards.burn import burn_name
from dashboards.openslo import WINDOW, Severity, Slo, Specification
from dashboards.promql import number


def sloth(specification: Specification, runbooks: str) -> dict[str, Any]:
    """The file that ``sloth generate`` takes."""
    return {
        "version": "prometheus/v1",
        "service": specification.service,
        "slos": [_sloth_slo(slo, runbooks) for slo in specification.slos],
    }


def _sloth_slo(slo: Slo, runbooks: str) -> dict[str, Any]:
    return {
        "name": slo.name,
        "objective": float(number(slo.objective * 100)),
        "description": slo.description,
        "labels": {"sli": slo.sli, "tier": slo.tier},
        "sli": {
            "events": {
                "error_query": f"sum(rate({slo.bad}[{WINDOW}])) or vector(0)",
                "total_query": f"sum(rate({slo.total}[{WINDOW}]))",
            }
        },
        "alerting": {
            "name": burn_name(slo),
            "annotations": {"runbook_url": f"{runbooks}/{burn_name(slo)}.md"},
            "page_alert": _sloth_alert(slo, "page"),
            "ticket_alert": _sloth_alert(slo, "ticket"),
        },
    }


def _sloth_alert(slo: Slo, severity: Severity) -> dict[str, Any]:
    if any(alert.severity == severity for alert in slo.alerts):
        return {"labels": {"severity": severity}}
    return {"disable": True}


def pyrra(specification: Specification) -> list[dict[str, Any]]:
    """Documents for the folder that ``pyrra filesystem`` reads, or for ``kubectl apply``."""
    return [_pyrra_slo(slo) for slo in specification.slos]


def _pyrra_slo(slo: Slo) -> dict[str, Any]:
    return {
        "apiVersion": "pyrra.dev/v1alpha1",
        "kind": "ServiceLevelObjective",
        "metadata": {"name": slo.name, "labels": {"pyrra.dev/sli": slo.sli, "pyrra.dev/tier": slo.tier}},
        "spec": {
            "target": number(slo.objective * 100),
            "window": slo.window,
            "description": slo.description,
            "indicator": {"ratio": {"errors": {"metric": slo.bad}, "total": {"metric": slo.total}}},
            "alerting": {"name": burn_name(slo)},
        },
    }
