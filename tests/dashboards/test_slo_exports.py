"""The shapes of OpenSLO, Sloth and Pyrra, as they publish them: fields that they do not know are mistakes."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml

from dashboards.exports import pyrra, sloth
from dashboards.openslo import SLO_FILE, load_specification
from tests.dashboards.queries import selectors

Schema = dict[str, Any]


def _object(required: str, optional: str = "", **fields: Schema) -> Schema:
    names = [*required.split(), *optional.split()]
    assert set(fields) <= set(names)
    return {
        "type": "object",
        "required": required.split(),
        "properties": {name: fields.get(name, {}) for name in names},
        "additionalProperties": False,
    }


TEXT: Schema = {"type": "string", "minLength": 1}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
NAME: Schema = {"type": "string", "pattern": r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"}
ANNOTATION_KEY = (
    r"^(([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9][a-z0-9-]{0,61}[a-z0-9]/)?[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$"
)
VALUE: Schema = {"type": "string", "maxLength": 63, "pattern": r"^[a-z0-9A-Z][a-z0-9A-Z._-]*$"}
DURATION: Schema = {"type": "string", "pattern": r"^\d+[mhdwMQY]$"}

METADATA = _object(
    "name",
    "displayName labels annotations",
    name=NAME,
    displayName=TEXT,
    labels={"type": "object", "additionalProperties": VALUE},
    annotations={"type": "object", "propertyNames": {"pattern": ANNOTATION_KEY}, "additionalProperties": VALUE},
)
METRIC = _object(
    "metricSource", metricSource=_object("spec", "metricSourceRef type", spec=_object("query", query=TEXT))
)
RATIO = _object("total", "counter good bad", good=METRIC, bad=METRIC, total=METRIC, counter={"type": "boolean"})
CONDITION = _object(
    "severity condition",
    "description",
    condition=_object(
        "kind op threshold lookbackWindow alertAfter",
        kind={"const": "burnrate"},
        op={"enum": ["lte", "gte", "lt", "gt"]},
        threshold={"type": "number"},
        lookbackWindow=DURATION,
        alertAfter=DURATION,
    ),
)
SPECS: dict[str, Schema] = {
    "Service": _object("", "description", description={"type": "string", "maxLength": 1050}),
    "DataSource": _object("type connectionDetails", "description", type=TEXT),
    "AlertNotificationTarget": _object("target", "description", target=TEXT),
    "AlertPolicy": _object(
        "alertWhenNoData alertWhenResolved alertWhenBreaching conditions notificationTargets",
        "description",
        conditions={
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": _object("kind metadata spec", metadata=METADATA, spec=CONDITION),
        },
        notificationTargets={"type": "array", "minItems": 1, "items": _object("targetRef", targetRef=NAME)},
    ),
    "SLO": _object(
        "service indicator timeWindow budgetingMethod objectives",
        "description alertPolicies",
        description={"type": "string", "maxLength": 1050},
        indicator=_object("metadata spec", metadata=METADATA, spec=_object("ratioMetric", ratioMetric=RATIO)),
        timeWindow={
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": _object("duration isRolling", duration=DURATION),
        },
        budgetingMethod={"enum": ["Occurrences", "Timeslices"]},
        objectives={
            "type": "array",
            "minItems": 1,
            "items": _object("target", target={"type": "number", "minimum": 0, "exclusiveMaximum": 1}),
        },
        alertPolicies={"type": "array", "items": _object("alertPolicyRef", alertPolicyRef=NAME)},
    ),
}

SLOTH_ALERT = _object("", "disable labels annotations", labels=TEXTS, annotations=TEXTS, disable={"type": "boolean"})
SLOTH = _object(
    "version service slos",
    "labels",
    version={"const": "prometheus/v1"},
    slos={
        "type": "array",
        "minItems": 1,
        "items": _object(
            "name objective sli alerting",
            "description labels",
            name={"type": "string", "pattern": r"^[A-Za-z0-9][-A-Za-z0-9_.]*[A-Za-z0-9]$", "maxLength": 128},
            objective={"type": "number", "exclusiveMinimum": 0, "maximum": 100},
            labels=TEXTS,
            sli=_object("events", events=_object("error_query total_query", error_query=TEXT, total_query=TEXT)),
            alerting=_object(
                "name page_alert ticket_alert", "labels annotations",
                annotations=TEXTS, labels=TEXTS, page_alert=SLOTH_ALERT, ticket_alert=SLOTH_ALERT,
            ),
        ),
    },
)  # fmt: skip
PYRRA_METRIC = _object("metric", metric=TEXT)
PYRRA = _object(
    "apiVersion kind metadata spec",
    apiVersion={"const": "pyrra.dev/v1alpha1"},
    kind={"const": "ServiceLevelObjective"},
    metadata=_object("name", "labels namespace", name=NAME, labels=TEXTS),
    spec=_object(
        "target window indicator",
        "description alerting",
        target={"type": "string", "pattern": r"^\d+(\.\d+)?$"},
        window={"type": "string", "pattern": r"^\d+[smhdw]$"},
        indicator=_object("ratio", ratio=_object("errors total", "grouping", errors=PYRRA_METRIC, total=PYRRA_METRIC)),
        alerting=_object("name", "disabled", name=TEXT),
    ),
)


@pytest.mark.parametrize(
    "document", list(yaml.safe_load_all(SLO_FILE.read_text())), ids=lambda d: d["metadata"]["name"]
)
def test_slo_file_is_openslo(document: dict[str, Any]) -> None:
    schema = _object(
        "apiVersion kind metadata spec",
        apiVersion={"const": "openslo/v1"},
        kind={"enum": list(SPECS)},
        metadata=METADATA,
        spec=SPECS[document["kind"]],
    )
    jsonschema.validate(document, schema)


def test_sloth_takes_the_export() -> None:
    specification = load_specification()
    export = sloth(specification, "runbooks")
    jsonschema.validate(export, SLOTH)
    for slo in export["slos"]:
        for query in slo["sli"]["events"].values():
            assert "{{.window}}" in query
            assert selectors(query.replace("{{.window}}", "5m"))
    by_name = {slo["name"]: slo for slo in export["slos"]}
    assert by_name["success-pro"]["objective"] == 99.9
    assert by_name["admission-free"]["alerting"]["page_alert"] == {"disable": True}
    assert by_name["admission-free"]["alerting"]["ticket_alert"] == {"labels": {"severity": "ticket"}}


def test_pyrra_takes_the_export() -> None:
    specification = load_specification()
    for document, slo in zip(pyrra(specification), specification.slos, strict=True):
        jsonschema.validate(document, PYRRA)
        ratio = document["spec"]["indicator"]["ratio"]
        (errors,), (total,) = selectors(ratio["errors"]["metric"]), selectors(ratio["total"]["metric"])
        assert set(errors.matchers) - set(total.matchers) == {("result", "=", "bad")}
        assert ("tier", "=", slo.tier) in total.matchers
