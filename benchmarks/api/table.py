"""The report as people read it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def show(report: Mapping[str, Any]) -> None:
    """One figure a line, its place in the report before it."""
    for name, value in _flat(report):
        print(f"{name:<52} {value}")


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for inner in value:
            yield from _flat(inner, f"{path}[{inner.get('listeners', '')}]")
    else:
        yield path, value if isinstance(value, str) else json.dumps(value)
