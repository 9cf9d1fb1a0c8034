"""What several requests hold their values to, and how answers are filled."""

from __future__ import annotations

import unicodedata
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

M = TypeVar("M", bound=BaseModel)


def strict(example: dict[str, Any]) -> ConfigDict:
    """Nothing is coerced, nothing unknown is ignored; with an example of the whole."""
    return ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": [example]})


def one_line(text: str) -> str:
    """
    Raises:
        ValueError: it holds control characters, or halves of a character.
    """
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise ValueError("must be one line of text without control characters")
    return text


def storable(text: str) -> str:
    """
    Raises:
        ValueError: it holds U+0000, which PostgreSQL does not take, or half a character, such as of an emoji cut in two
            (U+D800 to U+DFFF), which no answer can be written with.
    """
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not hold the character U+0000 or half a character (U+D800 to U+DFFF)")
    return text


def filled(model: type[M], source: object, /, **others: Any) -> M:
    """An answer whose fields are the source's attributes of the same names, but for those given here."""
    same = {name: getattr(source, name) for name in model.model_fields if name not in others}
    return model(**same, **others)
