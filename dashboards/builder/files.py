"""The committed JSON: one file per dashboard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dashboards.builder.grafana import dashboard_json

DASHBOARDS_DIR: Final = Path(__file__).parents[1] / "grafana" / "dashboards"


def rendered() -> Mapping[str, str]:
    """The text of every file, by its name. The same every time."""
    from dashboards.panels import DASHBOARDS  # the panels are made of this package's classes

    return {
        f"{each.uid}.json": json.dumps(dashboard_json(each), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        for each in DASHBOARDS
    }


def write_all(out: Path = DASHBOARDS_DIR) -> list[Path]:
    """Write every dashboard to ``out``, and take away files of dashboards that there are no longer.

    Returns:
        What was written or taken away because it differed.

    Raises:
        OSError: it cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    changed = stale(out)
    texts = rendered()
    for path in changed:
        if path.name in texts:
            path.write_text(texts[path.name], encoding="utf-8")
        else:
            path.unlink()
    return changed


def stale(out: Path = DASHBOARDS_DIR) -> list[Path]:
    """Files that differ from what the panels say, missing and left-over ones among them."""
    texts = rendered()
    there = {path.name: path.read_text(encoding="utf-8") for path in out.glob("tutti-*.json")}
    names = sorted({*texts, *there})
    return [out / name for name in names if texts.get(name) != there.get(name)]
