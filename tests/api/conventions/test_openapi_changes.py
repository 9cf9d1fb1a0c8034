"""What breaks a client is found; what does not is let through."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api import openapi_changes
from api.openapi import Json
from api.openapi_changes import breaking, main, unannounced

OLD: Json = {
    "paths": {
        "/songs": {
            "post": {
                "operationId": "songs_create",
                "security": [{"Bearer": ["write"]}, {"Session": ["write"]}],
                "parameters": [
                    {"in": "query", "name": "draft", "schema": {"type": "boolean"}},
                    {"in": "query", "name": "key", "required": True, "schema": {"enum": ["a", "b"]}},
                ],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Song"}}}},
                "responses": {
                    "201": {
                        "content": {
                            "application/json": {"schema": {"$ref": "#/components/schemas/Song"}},
                            "audio/wav": {"schema": {"type": "string"}},
                        }
                    }
                },
            }
        },
        "/health": {"get": {"operationId": "health", "security": [], "responses": {"200": {}}}},
    },
    "components": {
        "schemas": {
            "Song": {
                "type": "object",
                "required": ["title"],
                "properties": {
                    "title": {"type": "string", "maxLength": 100},
                    "tempo": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
                    "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Song"}},
                },
            }
        }
    },
}


def song(document: Json) -> Json:
    found: Json = document["components"]["schemas"]["Song"]
    return found


def post(document: Json) -> Json:
    found: Json = document["paths"]["/songs"]["post"]
    return found


BREAKING: list[tuple[Callable[[Json], Any], str]] = [
    (lambda d: d["paths"].pop("/health"), "GET /health is gone"),
    (lambda d: post(d).update(operationId="other"), "POST /songs: operationId was songs_create"),
    (lambda d: post(d).update(security=[{"Bearer": ["write", "admin"]}]), "POST /songs: needs the scope admin now"),
    (lambda d: post(d)["security"].pop(), "POST /songs: no longer takes Session"),
    (
        lambda d: d["paths"]["/health"]["get"].update(security=[{"Bearer": []}]),
        "GET /health: needs a credential now",
    ),
    (lambda d: post(d)["parameters"].pop(0), "POST /songs: query parameter draft is gone"),
    (lambda d: post(d)["parameters"][0].update(required=True), "POST /songs: query parameter draft is required now"),
    (
        lambda d: post(d)["parameters"][1]["schema"]["enum"].pop(),
        'POST /songs: query parameter key no longer takes "b"',
    ),
    (lambda d: post(d)["requestBody"].update(required=True), "POST /songs: needs a body now"),
    (lambda d: post(d)["responses"]["201"]["content"].pop("audio/wav"), "POST /songs: response: audio/wav is gone"),
    (lambda d: post(d).update(responses={"202": {}}), "POST /songs: no longer answers 201"),
    (lambda d: song(d)["required"].append("tempo"), "POST /songs: request.tempo is required now"),
    (lambda d: song(d)["required"].clear(), "POST /songs: response.title may be missing now"),
    (lambda d: song(d)["properties"].pop("tempo"), "POST /songs: response.tempo is gone"),
    (lambda d: song(d)["properties"]["title"].update(maxLength=50), "POST /songs: request.title: maxLength is 50 now"),
    (lambda d: song(d)["properties"]["title"].update(pattern="^a"), "POST /songs: request.title: another pattern"),
    (
        lambda d: song(d)["properties"]["title"].update(type="integer"),
        "POST /songs: request.title no longer takes string",
    ),
    (
        lambda d: song(d)["properties"]["tempo"]["anyOf"][0].update(minimum=20),
        "POST /songs: request.tempo: minimum is 20 now",
    ),
    (
        lambda d: song(d)["properties"]["tempo"]["anyOf"][0].update(type="number"),
        "POST /songs: response.tempo may now be number",
    ),
]
HARMLESS: list[Callable[[Json], Any]] = [
    lambda d: None,
    lambda d: d["paths"].update({"/new": {"get": {"operationId": "new", "responses": {"200": {}}}}}),
    lambda d: post(d)["parameters"].append({"in": "query", "name": "more", "schema": {"type": "string"}}),
    lambda d: post(d)["parameters"][1].update(required=False),
    lambda d: post(d)["security"].append({"ApiKey": ["write"]}),
    lambda d: song(d)["properties"].update(artist={"type": "string"}),
    lambda d: song(d)["properties"]["title"].update(maxLength=200, description="longer"),
    lambda d: post(d)["responses"].update({"409": {}}),
    lambda d: d["paths"]["/health"]["get"].update(summary="better words"),
]


@pytest.mark.parametrize(("change", "message"), BREAKING, ids=[message for _, message in BREAKING])
def test_breaking_changes_are_named(change: Callable[[Json], Any], message: str) -> None:
    new = copy.deepcopy(OLD)
    change(new)
    assert message in breaking(OLD, new)


@pytest.mark.parametrize("change", HARMLESS, ids=range(len(HARMLESS)))
def test_what_adds_breaks_nothing(change: Callable[[Json], Any]) -> None:
    new = copy.deepcopy(OLD)
    change(new)
    assert breaking(OLD, new) == []


def test_only_the_newest_section_of_the_changelog_announces() -> None:
    changelog = "# Log\n\n## [Unreleased]\n\n- GET /a\n  is gone\n\n## [1.0]\n\n- GET /b is gone\n"
    assert unannounced(["GET /a is gone", "GET /b is gone"], changelog) == ["GET /b is gone"]


def test_the_document_is_not_replaced_by_one_that_breaks_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    committed, changelog = tmp_path / "openapi.json", tmp_path / "CHANGELOG.md"
    monkeypatch.setattr(openapi_changes, "DOCUMENT", committed)
    monkeypatch.setattr(openapi_changes, "CHANGELOG", changelog)
    monkeypatch.setattr(openapi_changes, "REPOSITORY", tmp_path)
    new = copy.deepcopy(OLD)
    del new["paths"]["/health"]
    monkeypatch.setattr(openapi_changes, "generate", lambda: new)
    changelog.write_text("## [Unreleased]\n")
    committed.write_text(json.dumps(OLD))
    assert main() == 1
    assert "GET /health is gone" in capsys.readouterr().err
    assert json.loads(committed.read_text()) == OLD
    changelog.write_text("## [Unreleased]\n\n- GET /health is gone: nobody asked.\n")
    assert main() == 0
    assert json.loads(committed.read_text()) == new
