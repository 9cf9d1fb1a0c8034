"""What ``slo.yaml`` says, typed. It is OpenSLO v1 (https://github.com/OpenSLO/OpenSLO), one SLO per SLI and tier.

What OpenSLO has no field for stands in annotations with the prefix ``tutti.slo/``; the file's head explains them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast

from dashboards.document import Document, SloFileError, read_documents
from dashboards.durations import seconds

SLO_FILE: Final = Path(__file__).parent / "slo.yaml"
API_VERSION: Final = "openslo/v1"
KINDS: Final = ("Service", "DataSource", "AlertNotificationTarget", "AlertPolicy", "SLO")
WINDOW: Final = "{{.window}}"
PREFIX: Final = "tutti.slo/"

Severity = Literal["page", "ticket"]

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"[a-z][a-z0-9_]*")
# What the exports for Sloth and Pyrra can both say: a sum of the increase of one selector.
_QUERY = re.compile(r"sum\(increase\(([a-z_]+\{[^{}]+\})\[\{\{\.window\}\}\]\)\)")


@dataclass(frozen=True, slots=True)
class BurnAlert:
    """An alert on how fast the error budget burns: in both windows more than ``factor`` times the even pace.

    Attributes:
        severity: page wakes somebody, ticket does not.
        factor: 1 uses up exactly the budget by the end of the SLO's window.
        long_window: as Prometheus writes durations; proves that it matters.
        short_window: likewise; ends the alert soon after the fault.
        minimum_bad_events: in the long window, below which nobody is told.
    """

    name: str
    title: str
    description: str
    severity: Severity
    factor: float
    long_window: str
    short_window: str
    minimum_bad_events: int


@dataclass(frozen=True, slots=True)
class Slo:
    """One SLI's objective for one tier.

    Attributes:
        objective: share of good events, in (0, 1).
        window: over which the budget is counted, as Prometheus writes durations.
        bad: selector of the counter of bad events.
        total: selector of the counter of all events.
        threshold_s: a request is good up to here; None if the SLI is no time.
        deadline: base in seconds, and seconds per second of audio asked for; None for other SLIs.
        provisional: the threshold has not been measured on the running platform yet.
    """

    name: str
    title: str
    description: str
    sli: str
    tier: str
    objective: float
    window: str
    bad: str
    total: str
    threshold_s: float | None
    deadline: tuple[float, float] | None
    provisional: bool
    alerts: tuple[BurnAlert, ...]

    @property
    def budget(self) -> float:
        """Share of events that may be bad."""
        return round(1 - self.objective, 9)


@dataclass(frozen=True, slots=True)
class Specification:
    """All of the file, in its order."""

    service: str
    slos: tuple[Slo, ...]

    @property
    def slis(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(slo.sli for slo in self.slos))

    @property
    def tiers(self) -> tuple[str, ...]:
        """Highest first, as in the file."""
        return tuple(dict.fromkeys(slo.tier for slo in self.slos))

    @property
    def window(self) -> str:
        """Over which every budget is counted."""
        return self.slos[0].window

    @property
    def alerts(self) -> tuple[BurnAlert, ...]:
        return tuple(dict.fromkeys(alert for slo in self.slos for alert in slo.alerts))


def load_specification(path: Path = SLO_FILE) -> Specification:
    """Read and check the file.

    Raises:
        SloFileError: with the document and the field that are wrong.
    """
    documents = read_documents(path)
    for document in documents:
        _check_header(document)
    services = [document.child("metadata").text("name") for document in _of_kind(documents, "Service")]
    if len(services) != 1:
        raise SloFileError(f"{path}: must have exactly one document of kind Service, not {len(services)}")
    policies = {alert.name: alert for alert in map(_alert, _of_kind(documents, "AlertPolicy"))}
    slos = tuple(_slo(document, services[0], policies) for document in _of_kind(documents, "SLO"))
    if not slos:
        raise SloFileError(f"{path}: has no document of kind SLO")
    _check_pairs(path, slos)
    _check_agreement(path, slos)
    return Specification(services[0], slos)


def _of_kind(documents: list[Document], kind: str) -> list[Document]:
    return [document for document in documents if document.text("kind") == kind]


def _check_header(document: Document) -> None:
    document.refuse_others(("apiVersion", "kind", "metadata", "spec"))
    document.one_of("apiVersion", [API_VERSION])
    document.one_of("kind", KINDS)
    document.child("spec")
    metadata = document.child("metadata")
    metadata.refuse_others(("name", "displayName", "labels", "annotations"))
    if not _NAME.fullmatch(metadata.text("name")):
        raise metadata.error("name", "must be lowercase letters, digits and - (RFC 1123), 63 at most")


def _alert(document: Document) -> BurnAlert:
    metadata, spec = document.child("metadata"), document.child("spec")
    annotations = metadata.child("annotations")
    annotations.refuse_others((f"{PREFIX}short-window", f"{PREFIX}minimum-bad-events"))
    condition = spec.only("conditions").child("spec")
    burn = condition.child("condition")
    burn.one_of("kind", ["burnrate"])
    burn.one_of("op", ["gt"])
    minimum = annotations.number(f"{PREFIX}minimum-bad-events")
    if minimum < 1 or minimum != int(minimum):
        raise annotations.error(f"{PREFIX}minimum-bad-events", "must be a whole number from 1")
    alert = BurnAlert(
        name=metadata.text("name"),
        title=metadata.text("displayName"),
        description=spec.text("description"),
        severity=cast(Severity, condition.one_of("severity", ("page", "ticket"))),
        factor=_above_zero(burn, "threshold"),
        long_window=_window(burn, "lookbackWindow"),
        short_window=_window(annotations, f"{PREFIX}short-window"),
        minimum_bad_events=int(minimum),
    )
    if seconds(alert.short_window) >= seconds(alert.long_window):
        raise annotations.error(f"{PREFIX}short-window", f"must be shorter than {alert.long_window}")
    return alert


def _slo(document: Document, service: str, policies: Mapping[str, BurnAlert]) -> Slo:
    metadata, spec = document.child("metadata"), document.child("spec")
    spec.one_of("service", [service])
    spec.one_of("budgetingMethod", ["Occurrences"])
    labels = metadata.child("labels")
    ratio = spec.child("indicator").child("spec").child("ratioMetric")
    ratio.refuse_others(("counter", "bad", "total"))
    threshold_s, deadline, provisional = _thresholds(metadata)
    window = spec.only("timeWindow")
    if window.body.get("isRolling") is not True:
        raise window.error("isRolling", "must be true: calendar windows are not supported")
    return Slo(
        name=metadata.text("name"),
        title=metadata.text("displayName"),
        description=spec.text("description"),
        sli=_label(labels, "sli"),
        tier=_label(labels, "tier"),
        objective=_objective(spec.only("objectives")),
        window=_window(window, "duration"),
        bad=_selector(ratio, "bad", labels),
        total=_selector(ratio, "total", labels),
        threshold_s=threshold_s,
        deadline=deadline,
        provisional=provisional,
        alerts=tuple(_policy(item, policies) for item in spec.items("alertPolicies")),
    )


def _thresholds(metadata: Document) -> tuple[float | None, tuple[float, float] | None, bool]:
    if "annotations" not in metadata.body:
        return None, None, False
    found = metadata.child("annotations")
    threshold, base, slope, calibration = (
        PREFIX + name
        for name in ("threshold-seconds", "deadline-base-seconds", "deadline-per-audio-second", "calibration")
    )
    found.refuse_others((threshold, base, slope, calibration))
    provisional = calibration in found.body and bool(found.one_of(calibration, ["provisional"]))
    threshold_s = _above_zero(found, threshold) if threshold in found.body else None
    if base not in found.body and slope not in found.body:
        return threshold_s, None, provisional
    return threshold_s, (_above_zero(found, base), _above_zero(found, slope)), provisional


def _objective(objective: Document) -> float:
    target = objective.number("target")
    if not 0 < target < 1:
        raise objective.error("target", f"must lie between 0 and 1, not {target:g} (0.99 is 99 %)")
    return target


def _selector(ratio: Document, field: str, labels: Document) -> str:
    spec = ratio.child(field).child("metricSource").child("spec")
    query = spec.text("query")
    found = _QUERY.fullmatch(query)
    if not found:
        raise spec.error("query", f"must read sum(increase(METRIC{{LABELS}}[{WINDOW}])), not {query}")
    for label in ("sli", "tier"):
        if f'{label}="{labels.text(label)}"' not in found[1]:
            raise spec.error("query", f'must select {label}="{labels.text(label)}", as metadata.labels says')
    return found[1]


def _policy(item: Document, policies: Mapping[str, BurnAlert]) -> BurnAlert:
    return policies[item.one_of("alertPolicyRef", policies)]


def _label(labels: Document, field: str) -> str:
    found = labels.text(field)
    if not _LABEL.fullmatch(found):
        raise labels.error(field, f"must be lowercase letters, digits and _, not {found!r}")
    return found


def _window(document: Document, field: str) -> str:
    text = document.text(field)
    try:
        seconds(text)
    except ValueError as error:
        raise document.error(field, str(error)) from error
    return text


def _above_zero(document: Document, field: str) -> float:
    value = document.number(field)
    if value <= 0:
        raise document.error(field, f"must be above 0, not {value:g}")
    return value


def _check_pairs(path: Path, slos: tuple[Slo, ...]) -> None:
    pairs = [(slo.sli, slo.tier) for slo in slos]
    for sli in dict.fromkeys(sli for sli, _ in pairs):
        for tier in dict.fromkeys(tier for _, tier in pairs):
            if (count := pairs.count((sli, tier))) != 1:
                raise SloFileError(f"{path}: must have exactly one SLO with sli {sli} and tier {tier}, not {count}")


def _check_agreement(path: Path, slos: tuple[Slo, ...]) -> None:
    """What holds for one tier of an SLI is promised in the same terms to the others."""
    for slo in slos:
        first = next(each for each in slos if each.sli == slo.sli)
        if (slo.threshold_s is None, slo.deadline is None) != (first.threshold_s is None, first.deadline is None):
            raise SloFileError(f"{path}: {slo.name} and {first.name} must have the same kinds of annotations")
        if slo.window != slos[0].window:
            raise SloFileError(f"{path}: {slo.name} has the window {slo.window}, {slos[0].name} {slos[0].window}")
    if not any(slo.deadline for slo in slos):
        raise SloFileError(f"{path}: no SLO has {PREFIX}deadline-base-seconds, so jobs have no deadline")
