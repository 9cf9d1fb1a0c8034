"""Which colour a series has. The same name has the same colour in every chart, where it means something."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

from dashboards.builder.look import Color

PALETTE: Final = ("s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9")

_MEANING: Final = {
    "enterprise": "s0",
    "pro": "s1",
    "free": "s2",
    "completed": "green",
    "good": "green",
    "ready": "green",
    "active": "s0",
    "running": "s0",
    "queued": "orange",
    "starting": "orange",
    "paused": "s3",
    "draining": "s3",
    "cancelled": "soft",
    "idle": "soft",
    "failed": "red",
    "timeout": "orange",
    "wasted": "red",
    "p50": "s1",
    "p95": "s3",
    "p99": "s0",
    "rejected_capacity": "s4",
    "rejected_rate_limit": "s5",
    "rejected_invalid": "s8",
}


def color_variable(color: Color) -> str:
    """Of a colour that a query asks for; one like the text's would outshine the others as a line."""
    return "soft" if color is Color.SOFT else color.value


def line_colors(names: Sequence[str]) -> list[str]:
    """A CSS variable's name for each series of a chart: by what it means, else the next that no other has."""
    taken = {_MEANING[name] for name in names if name in _MEANING}
    free = itertools.cycle([color for color in PALETTE if color not in taken] or PALETTE)
    return [_MEANING.get(name) or next(free) for name in names]
