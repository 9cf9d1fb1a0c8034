"""Rules of Prometheus as data, and the files they are written to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dashboards.durations import duration


@dataclass(frozen=True, slots=True)
class RecordingRule:
    """Keeps the value of an expression under a name of its own."""

    record: str
    expression: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        rule: dict[str, Any] = {"record": self.record, "expr": self.expression}
        return rule | ({"labels": dict(self.labels)} if self.labels else {})


@dataclass(frozen=True, slots=True)
class AlertingRule:
    """Fires for each series of its expression that has been there for ``after_s`` seconds."""

    alert: str
    expression: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    after_s: float = 0

    def as_dict(self) -> dict[str, Any]:
        after = {"for": duration(self.after_s)} if self.after_s else {}
        head = {"alert": self.alert, "expr": self.expression}
        return {**head, **after, "labels": dict(self.labels), "annotations": dict(self.annotations)}


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated one after the other, every ``interval_s`` seconds."""

    name: str
    interval_s: float
    rules: tuple[RecordingRule | AlertingRule, ...]

    def as_dict(self) -> dict[str, Any]:
        rules = [rule.as_dict() for rule in self.rules]
        return {"name": self.name, "interval": duration(self.interval_s), "rules": rules}


def rules_file(groups: Iterable[Group]) -> dict[str, Any]:
    """What Prometheus reads under ``rule_files``."""
    return {"groups": [group.as_dict() for group in groups]}
