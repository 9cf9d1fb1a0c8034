"""The version of what runs here: the installed package's, or the project file's in a checkout that is not installed."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

_PROJECT_FILE = Path(__file__).resolve().parents[1] / "pyproject.toml"


def _read() -> str:
    try:
        return metadata.version("tutti")
    except metadata.PackageNotFoundError:
        return str(tomllib.loads(_PROJECT_FILE.read_text(encoding="utf-8"))["project"]["version"])


VERSION = _read()
