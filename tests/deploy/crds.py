"""Compares the chart's custom resources with the operators' own definitions (CRDs), field by field.

``python -m tests.deploy.crds FILE…``, with the YAML of ``kubectl get crd rayservices.ray.io -o yaml`` and so on. No
copy of them lies here: they belong to the operators, and to the version that a cluster has.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from deploy.render import render, values
from tests.deploy.conftest import EXAMPLES


def strict(schema: Any) -> Any:
    """The same schema, with fields refused that it does not name, as the API server does for who asks it to."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: strict(each) for name, each in schema.items()}
    open_ended = {"additionalProperties", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"}
    if schema.get("type") == "object" and "properties" in schema and not open_ended & set(schema):
        found["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    return found


def violations(definition: dict[str, Any], objects: list[dict[str, Any]]) -> Iterator[str]:
    """What is wrong with the objects of the kind that is defined."""
    spec = definition["spec"]
    versions = {f"{spec['group']}/{each['name']}": each["schema"]["openAPIV3Schema"] for each in spec["versions"]}
    for each in objects:
        if each["kind"] == spec["names"]["kind"]:
            schema = strict(versions[each["apiVersion"]])
            schema["properties"]["metadata"] = {"type": "object"}
            for error in jsonschema.Draft7Validator(schema).iter_errors(each):
                yield f"{each['kind']} {each['metadata']['name']}: {error.json_path}: {error.message[:200]}"


def main() -> None:
    objects = [each for example in EXAMPLES for each in render(values(example))]
    found: list[str] = []
    checked = 0
    for path in sys.argv[1:]:
        definition = yaml.load(Path(path).read_text(), yaml.CSafeLoader)
        checked += sum(each["kind"] == definition["spec"]["names"]["kind"] for each in objects)
        found += violations(definition, objects)
    sys.stdout.write("\n".join([*found, f"{checked} objects checked, {len(found)} violations", ""]))
    raise SystemExit(1 if found or not checked else 0)


if __name__ == "__main__":
    main()
