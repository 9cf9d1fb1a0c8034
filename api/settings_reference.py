"""``python -m api.settings_reference``: writes the table of ``SETTINGS.md`` anew from the settings themselves."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic.fields import FieldInfo

from api.environment import PREFIX
from api.settings import REPOSITORY, Settings

DOCUMENT = Path(__file__).with_name("SETTINGS.md")
_HEAD = "| variable | default | what it is |\n|---|---|---|\n"
_MADE = {"database_url": "SQLite in TUTTI_DATA_DIR", "storage_url": "`audio/` in TUTTI_DATA_DIR"}


def table() -> str:
    """One row a setting, in the order in which the code has them."""
    rows = (
        f"| `{PREFIX}{name.upper()}` | {_default(name, field)} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
    )
    return _HEAD + "".join(rows)


def renewed(document: str) -> str:
    """The document with the table as it is now; it ends with the table.

    Raises:
        ValueError: there is none in it.
    """
    before, head, _ = document.partition(_HEAD)
    if not head:
        raise ValueError(f"{DOCUMENT.name} has no table of settings: begin it with\n{_HEAD}")
    return before + table()


def _default(name: str, field: FieldInfo) -> str:
    value = field.default
    if name in _MADE:
        return _MADE[name]
    if value is None or value == "":
        return "unset"
    if isinstance(value, Path):
        return f"`{value.relative_to(REPOSITORY)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def main() -> int:
    DOCUMENT.write_text(renewed(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
