"""One document of a YAML file, read field by field: errors name the document and the field's path."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from models.errors import TuttiError


class SloFileError(TuttiError):
    """The file of service levels cannot be used: the message names the file, the document, the field and what to do."""


@dataclass(frozen=True, slots=True)
class Document:
    """A mapping inside a document, and where it stands.

    Attributes:
        where: file and document, for messages.
        path: of this mapping inside the document, "" at its top.
        body: the mapping.
    """

    where: str
    path: str
    body: Mapping[str, Any]

    def error(self, field: str, problem: str) -> SloFileError:
        """The error to raise about a field of this mapping."""
        return SloFileError(f"{self.where}: {self._at(field)}: {problem}")

    def child(self, field: str) -> Document:
        """The mapping below a field."""
        return Document(self.where, self._at(field), self._get(field, dict, "a mapping"))

    def text(self, field: str) -> str:
        """A text that is not blank, on one line."""
        found: str = self._get(field, str, "a text")
        if not found.strip():
            raise self.error(field, "must not be blank")
        return " ".join(found.split())

    def number(self, field: str) -> float:
        """A finite number; texts that hold one count too, for annotations are texts."""
        found = self._get(field, (int, float, str), "a number")
        try:
            value = float(found)
        except ValueError:
            value = math.nan
        if isinstance(found, bool) or not math.isfinite(value):
            raise self.error(field, f"must be a finite number, not {found!r}")
        return value

    def items(self, field: str) -> list[Document]:
        """The mappings of a list that is not empty."""
        found = self._get(field, list, "a list")
        if not found or not all(isinstance(item, dict) for item in found):
            raise self.error(field, "must be a list of mappings, and not empty")
        return [Document(self.where, f"{self._at(field)}[{i}]", item) for i, item in enumerate(found)]

    def texts(self, field: str) -> tuple[str, ...]:
        """The texts of a list that is not empty."""
        found = self._get(field, list, "a list of texts")
        if not found or not all(isinstance(item, str) and item.strip() for item in found):
            raise self.error(field, "must be a list of texts, and not empty")
        return tuple(" ".join(item.split()) for item in found)

    def only(self, field: str) -> Document:
        """The one mapping of a list of one."""
        found = self.items(field)
        if len(found) != 1:
            raise self.error(field, f"must have exactly one item, not {len(found)}")
        return found[0]

    def one_of(self, field: str, allowed: Iterable[str]) -> str:
        """A text out of a few."""
        found = self.text(field)
        if found not in (words := list(allowed)):
            raise self.error(field, f"must be one of {', '.join(words)}, not {found!r}")
        return found

    def refuse_others(self, allowed: Iterable[str]) -> None:
        """Refuse fields that nobody reads: a typo would switch something off in silence."""
        words = list(allowed)
        for field in self.body:
            if field not in words:
                raise self.error(str(field), f"unknown field; known are {', '.join(words)}")

    def _get(self, field: str, kind: type | tuple[type, ...], expected: str) -> Any:
        if field not in self.body:
            raise self.error(field, f"is missing; {expected} belongs here")
        found = self.body[field]
        if not isinstance(found, kind):
            raise self.error(field, f"must be {expected}, not {found!r}")
        return found

    def _at(self, field: str) -> str:
        return f"{self.path}.{field}" if self.path else field


def read_documents(path: Path) -> list[Document]:
    """The documents of a YAML file.

    Raises:
        SloFileError: the file cannot be read, is no YAML, or holds something other than mappings.
    """
    try:
        bodies = list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=_Loader))
    except (OSError, UnicodeDecodeError) as error:
        raise SloFileError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise SloFileError(f"{path}: is no YAML: {error}") from error
    return [_document(path, number, body) for number, body in enumerate(bodies, start=1) if body is not None]


class _Loader(yaml.SafeLoader):
    """YAML takes the last of two equal keys in silence, and half of a promise would be gone."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        built: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        if len(built) != len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key stands there twice", node.start_mark)
        return built


def _document(path: Path, number: int, body: object) -> Document:
    if not isinstance(body, dict):
        raise SloFileError(f"{path}: document {number}: must be a mapping, not {body!r}")
    metadata = body.get("metadata")
    name = metadata.get("name", "") if isinstance(metadata, dict) else ""
    called = " ".join(str(word) for word in (body.get("kind"), name) if word)
    return Document(f"{path}: document {number}" + (f" ({called})" if called else ""), "", body)
