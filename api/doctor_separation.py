"""Are drums and bass taken out of melodies here, and is there what that needs?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from api.doctor import Finding, Status
from models.errors import CheckpointError
from models.separator_file import SeparatorFile

NAME = "separation"


def check_separation(config: Path) -> Finding:
    """Of each model that is on: its extra is installed, and its weights are those of htdemucs."""
    try:
        separators = _separators(yaml.safe_load(config.read_text()))
        for separator in separators.values():
            SeparatorFile.open(separator)
    except (OSError, yaml.YAMLError, UnicodeDecodeError, AttributeError, LookupError, TypeError) as error:
        return Finding(NAME, Status.WARN, f"cannot be looked at: {type(error).__name__}", f"mend {config.name} first")
    except CheckpointError as error:
        return Finding(NAME, Status.FAIL, " ".join(str(error).split()), "do so, or leave separator out")
    if not separators:
        return Finding(NAME, Status.OK, "none: melodies are heard as they are (an extra: make separation)")
    return Finding(NAME, Status.OK, "htdemucs: " + ", ".join(f"{name} ({file})" for name, file in separators.items()))


def _separators(config: Any) -> dict[str, str]:
    """Model id → file, of those that are on."""
    models = {name: entry for app in config["applications"] for name, entry in app["args"]["models"].items()}
    return {
        name: str(entry["engine"]["separator"])
        for name, entry in models.items()
        if entry.get("enabled", True) and (entry.get("engine") or {}).get("separator")
    }
