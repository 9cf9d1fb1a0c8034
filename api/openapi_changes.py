"""``make openapi``: writes the committed document, and refuses to break clients in silence.

The document in the repository is the contract. It is replaced only when no operation takes less or promises less than
before, or when CHANGELOG.md says so: each breaking change stands there, word for word, in its topmost section.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI

from api.app import create_app
from api.openapi import Json, operations
from api.settings import Settings
from models.catalog import ModelSpec

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENT = REPOSITORY / "api" / "openapi.json"
CHANGELOG = REPOSITORY / "CHANGELOG.md"
Direction = Literal["request", "response"]
_LOWER_BOUNDS = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_UPPER_BOUNDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")


def breaking(old: Json, new: Json) -> list[str]:
    """What a client of the old document would trip over, one sentence each."""
    found: list[str] = []
    now = {(path, method): operation for path, method, operation in operations(new)}
    for path, method, operation in operations(old):
        name = f"{method.upper()} {path}"
        other = now.get((path, method))
        if other is None:
            found.append(f"{name} is gone")
        else:
            found += (f"{name}: {change}" for change in _Comparison(old, new).operation(operation, other))
    return list(dict.fromkeys(found))


class _Comparison:
    """Two documents, with what their references point at."""

    def __init__(self, old: Json, new: Json) -> None:
        self._old = old
        self._new = new
        self._seen: set[tuple[str, str]] = set()

    def operation(self, old: Json, new: Json) -> Iterator[str]:
        if old.get("operationId") != new.get("operationId"):
            yield f"operationId was {old.get('operationId')}"
        yield from self._security(old, new)
        yield from self._parameters(old, new)
        yield from self._body(old.get("requestBody", {}), new.get("requestBody", {}))
        yield from self._responses(old["responses"], new["responses"])

    def _security(self, old: Json, new: Json) -> Iterator[str]:
        before = {name: set(scopes) for one in old.get("security", ()) for name, scopes in one.items()}
        after = {name: set(scopes) for one in new.get("security", ()) for name, scopes in one.items()}
        if after and not before:
            yield "needs a credential now"
        more = {scope for name in before.keys() & after.keys() for scope in after[name] - before[name]}
        if more:
            yield f"needs the scope {', '.join(sorted(more))} now"
        gone = before.keys() - after.keys()
        if gone and after:
            yield f"no longer takes {', '.join(sorted(gone))}"

    def _parameters(self, old: Json, new: Json) -> Iterator[str]:
        before = {(one["in"], one["name"]): one for one in old.get("parameters", ())}
        after = {(one["in"], one["name"]): one for one in new.get("parameters", ())}
        yield from (f"{place} parameter {name} is gone" for place, name in sorted(before.keys() - after.keys()))
        for (place, name), one in after.items():
            was = before.get((place, name))
            if one.get("required") and not (was or {}).get("required"):
                yield f"{place} parameter {name} is required now"
            if was:
                yield from self._schema(was["schema"], one["schema"], f"{place} parameter {name}", "request")

    def _body(self, old: Json, new: Json) -> Iterator[str]:
        if new.get("required") and not old.get("required"):
            yield "needs a body now"
        yield from self._content(old.get("content", {}), new.get("content", {}), "request")

    def _responses(self, old: Json, new: Json) -> Iterator[str]:
        for status, response in old.items():
            if not status.startswith("2"):
                continue
            if status not in new:
                yield f"no longer answers {status}"
            else:
                yield from self._content(response.get("content", {}), new[status].get("content", {}), "response")

    def _content(self, old: Json, new: Json, direction: Direction) -> Iterator[str]:
        yield from (f"{direction}: {media_type} is gone" for media_type in sorted(old.keys() - new.keys()))
        for media_type in sorted(old.keys() & new.keys()):
            schemas = old[media_type].get("schema", {}), new[media_type].get("schema", {})
            yield from self._schema(*schemas, direction, direction)

    def _schema(self, old: Json, new: Json, where: str, direction: Direction) -> Iterator[str]:
        if "$ref" in old:  # what refers to itself is looked at once
            pair = (f"{direction} {old['$ref']}", str(new.get("$ref")))
            if pair in self._seen:
                return
            self._seen.add(pair)
        old, new = _resolved(self._old, old), _resolved(self._new, new)
        kinds = _kinds(self._old, old), _kinds(self._new, new)
        fewer = kinds[0] - kinds[1] if direction == "request" else kinds[1] - kinds[0]
        if fewer:
            verb = "no longer takes" if direction == "request" else "may now be"
            yield f"{where} {verb} {', '.join(sorted(fewer))}"
        if direction == "request":
            yield from _narrower(old, new, where)
        yield from self._properties(old, new, where, direction)
        if "items" in old and "items" in new:
            yield from self._schema(old["items"], new["items"], f"{where}[]", direction)
        alternatives = old.get("anyOf", []), new.get("anyOf", [])
        if len(alternatives[0]) == len(alternatives[1]):
            for index, (was, now) in enumerate(zip(*alternatives, strict=True)):
                yield from self._schema(was, now, f"{where}|{index}" if index else where, direction)

    def _properties(self, old: Json, new: Json, where: str, direction: Direction) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        required = set(old.get("required", ())), set(new.get("required", ()))
        yield from (f"{where}.{name} is gone" for name in before if name not in after)
        if direction == "request":
            yield from (f"{where}.{name} is required now" for name in sorted(required[1] - required[0]))
        else:
            optional = (required[0] - required[1]) & after.keys()
            yield from (f"{where}.{name} may be missing now" for name in sorted(optional))
        for name in sorted(before.keys() & after.keys()):
            yield from self._schema(before[name], after[name], f"{where}.{name}", direction)


def _resolved(document: Json, schema: Json) -> Json:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    target: Any = document
    for part in reference.removeprefix("#/").split("/"):
        target = target[part]
    return _resolved(document, target)


def _kinds(document: Json, schema: Json) -> set[str]:
    """The types and enumerated values a schema allows, those of its alternatives included."""
    schema = _resolved(document, schema)
    alternatives = schema.get("anyOf", []) + schema.get("oneOf", [])
    found = {kind for one in alternatives for kind in _kinds(document, one)}
    if "const" in schema or "enum" in schema:
        return found | {json.dumps(value) for value in schema.get("enum", [schema.get("const")])}
    kinds = schema.get("type", [])
    return found | ({kinds} if isinstance(kinds, str) else set(kinds))


def _narrower(old: Json, new: Json, where: str) -> Iterator[str]:
    for name in _LOWER_BOUNDS:
        if name in new and new[name] > old.get(name, float("-inf")):
            yield f"{where}: {name} is {new[name]} now"
    for name in _UPPER_BOUNDS:
        if name in new and new[name] < old.get(name, float("inf")):
            yield f"{where}: {name} is {new[name]} now"
    if "pattern" in new and new["pattern"] != old.get("pattern"):
        yield f"{where}: another pattern"


def unannounced(changes: list[str], changelog: str) -> list[str]:
    """Those that the topmost section of the changelog does not name."""
    sections = re.split(r"^## ", changelog, flags=re.MULTILINE)
    newest = " ".join(sections[1].split()) if len(sections) > 1 else ""
    return [change for change in changes if change not in newest]


def application(folder: Path) -> FastAPI:
    """The application as production builds it; nothing is started and nothing outside is touched.

    Args:
        folder: where its settings say that data is.
    """
    settings = Settings(
        environment="production",
        data_dir=folder,
        redis_url="redis://127.0.0.1",
        secret_key="only this document is made with it",  # noqa: S106
        master_keys=f"1:{base64.b64encode(bytes(32)).decode()}",
    )
    backends: dict[str, Any] = {"tiny": None}
    return create_app(backends, {"tiny": ModelSpec("tiny", folder, "Apache-2.0", "", 30.0, 32_000, 1, 50, 4)}, settings)


def generate() -> Json:
    """The document of what the code says now."""
    with tempfile.TemporaryDirectory() as folder:
        document = application(Path(folder)).openapi()
    found: Json = json.loads(json.dumps(document))
    return found


def main() -> int:
    """Write the document unless that would break clients unannounced; the exit code says which."""
    new = generate()
    old: Json = json.loads(DOCUMENT.read_text(encoding="utf-8")) if DOCUMENT.exists() else {"paths": {}}
    missing = unannounced(breaking(old, new), CHANGELOG.read_text(encoding="utf-8"))
    if missing:
        lines = "".join(f"  - {change}\n" for change in missing)
        sys.stderr.write(f"These changes break clients. Undo them, or list them in {CHANGELOG.name}:\n{lines}")
        return 1
    DOCUMENT.write_text(json.dumps(new, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"{DOCUMENT.relative_to(REPOSITORY)}: {len(list(operations(new)))} operations\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
