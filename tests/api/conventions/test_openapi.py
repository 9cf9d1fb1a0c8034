"""The OpenAPI document: valid, complete by our own rules, and the one that is committed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from api.auth.policy import policies
from api.errors import ErrorCode
from api.openapi import Json, operation_id, operations
from api.openapi_changes import DOCUMENT, application, generate

REFERENCE = "#/components/"


@pytest.fixture(scope="module")
def document() -> Json:
    return generate()


@pytest.fixture(scope="module")
def found(document: Json) -> list[tuple[str, str, Json]]:
    return list(operations(document))


def resolved(document: Json, node: Json) -> Json:
    while "$ref" in node:
        target: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def test_it_is_valid_openapi_3_1(document: Json) -> None:
    assert document["openapi"].startswith("3.1")
    validate(document)


def test_it_is_the_committed_one(document: Json) -> None:
    committed = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    assert committed == document, "the API has changed: run `make openapi`, look at the difference and commit it"


def test_it_names_its_licence_server_and_tags(document: Json, found: list[tuple[str, str, Json]]) -> None:
    assert document["info"]["license"]["identifier"]
    assert document["servers"][0]["url"] == "/"
    described = {tag["name"] for tag in document["tags"] if tag["description"]}
    assert described == {tag for _, _, operation in found for tag in operation["tags"]}


def test_every_operation_says_what_it_does(found: list[tuple[str, str, Json]]) -> None:
    for path, method, operation in found:
        where = f"{method} {path}"
        assert operation["summary"], where
        assert len(operation["summary"]) <= 60, where
        assert not operation["summary"].endswith("."), where
        assert len(operation["tags"]) == 1, where


def test_operation_ids_are_readable_and_unique(found: list[tuple[str, str, Json]]) -> None:
    ids = [operation["operationId"] for _, _, operation in found]
    assert len(ids) == len(set(ids)), sorted(one for one in ids if ids.count(one) > 1)
    assert [one for one in ids if not re.fullmatch("[a-z]+(_[a-z0-9]+)+", one) or len(one) > 40] == []


def test_operation_ids_do_not_repeat_their_tag() -> None:
    assert operation_id("webhooks", "list_webhooks") == "webhooks_list"
    assert operation_id("webhooks", "get_delivery") == "webhooks_get_delivery"
    assert operation_id("models", "get_model") == "models_get"


def test_every_operation_names_its_errors(document: Json, found: list[tuple[str, str, Json]]) -> None:
    for path, method, operation in found:
        responses = operation["responses"]
        where = f"{method} {path}"
        assert any(status.startswith("2") for status in responses), where
        assert {"500", "503", "default"} <= responses.keys(), where
        if path.startswith("/api/"):
            assert any(status.startswith("4") for status in responses), where
        for status, response in responses.items():
            answer = resolved(document, response)
            assert answer["description"], where
            assert "X-Request-ID" in answer["headers"], (where, status)
            if status == "default" or status >= "4":
                assert {"application/json", "application/problem+json"} <= answer["content"].keys(), (where, status)
            if status in ("429", "503", "504"):
                assert "Retry-After" in answer["headers"], (where, status)


def test_every_code_has_an_example_and_stands_under_its_status(
    document: Json, found: list[tuple[str, str, Json]]
) -> None:
    assert document["components"]["examples"].keys() == {code.value for code in ErrorCode}
    by_value = {code.value: code for code in ErrorCode}
    for path, method, operation in found:
        for status, response in operation["responses"].items():
            names = response.get("content", {}).get("application/json", {}).get("examples", {}) if status >= "4" else {}
            assert {str(by_value[name].status) for name in names} <= {status}, (method, path)


def test_security_follows_the_policies(document: Json, found: list[tuple[str, str, Json]]) -> None:
    schemes = document["components"].get("securitySchemes", {})
    for path, method, operation in found:
        for one in operation["security"]:
            assert one.keys() <= schemes.keys(), (method, path)
        if operation["security"]:
            assert {"401", "403", "429"} <= operation["responses"].keys(), (method, path)


def test_bodies_have_examples_and_refuse_the_unknown(document: Json, found: list[tuple[str, str, Json]]) -> None:
    for path, method, operation in found:
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            if media_type != "application/json":
                continue
            schema = resolved(document, content["schema"].get("anyOf", [content["schema"]])[0])
            assert content.get("examples") or schema.get("examples"), f"{method} {path}: its body needs an example"
            assert schema.get("additionalProperties") is False, f"{method} {path}: its body takes unknown fields"


# -------------------------------------------------------------------------------------- examples
def examples(document: Json) -> Iterator[tuple[str, Json, Any]]:
    """Where, the schema, and a value that should fit it."""
    yield from _examples(document, document, "")


def _examples(document: Json, node: Any, where: str) -> Iterator[tuple[str, Json, Any]]:
    if isinstance(node, list):
        for index, inner in enumerate(node):
            yield from _examples(document, inner, f"{where}/{index}")
    if not isinstance(node, dict):
        return
    schema = node.get("schema", node)
    given = node.get("examples")
    if isinstance(given, list):
        yield from ((where, schema, value) for value in given)
    elif isinstance(given, dict) and "schema" in node:
        yield from ((where, schema, resolved(document, one).get("value")) for one in given.values())
    if "example" in node and "schema" in node:
        yield where, schema, node["example"]
    for name, inner in node.items():
        if name not in ("examples", "example", "default"):
            yield from _examples(document, inner, f"{where}/{name}")


def test_every_example_fits_its_schema(document: Json) -> None:
    checked = 0
    for where, schema, value in examples(document):
        bound = {**schema, "components": document["components"]}
        problems = [error.message for error in Draft202012Validator(bound).iter_errors(value)]
        assert not problems, (where, problems)
        checked += 1
    assert checked > 10


def test_no_reference_leads_nowhere(document: Json) -> None:
    text = json.dumps(document)
    for reference in set(re.findall(r'"\$ref": "(#/[^"]+)"', text)):
        assert resolved(document, {"$ref": reference}), reference


def test_every_route_of_the_application_is_described(tmp_path: Path) -> None:
    app = application(tmp_path)
    policies(app)  # raises for a route without one
    described = {(method.upper(), path) for path, method, _ in operations(app.openapi())}
    routes = {(method, route.path) for route in iter_route_contexts(app.routes) for method in route.methods or ()}
    hidden = {(method, path) for method, path in routes - described if (path or "").startswith("/api/")}
    assert {(method, path) for method, path in hidden if method != "HEAD" or ("GET", path) not in described} == set()
