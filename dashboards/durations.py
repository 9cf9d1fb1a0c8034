"""Durations as Prometheus and OpenSLO write them: ``5m``, ``1h``, ``30d``."""

from __future__ import annotations

import re

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DURATION = re.compile(r"([1-9][0-9]*)(ms|[smhdw])")


def seconds(text: str) -> float:
    """Length of a duration.

    Raises:
        ValueError: it is not one whole number with one unit of ms, s, m, h, d, w.
    """
    found = _DURATION.fullmatch(text)
    if not found:
        raise ValueError(f"must be a duration such as 5m, 1h or 30d, not {text!r}")
    return int(found[1]) * _UNITS_MS[found[2]] / 1000


def duration(length_s: float) -> str:
    """The shortest way to write so many seconds, to the millisecond.

    Raises:
        ValueError: it is under a millisecond.
    """
    length_ms = round(length_s * 1000)
    if length_ms < 1:
        raise ValueError(f"{length_s:g} s is shorter than Prometheus can say")
    for unit in ("d", "h", "m", "s"):
        if length_ms % _UNITS_MS[unit] == 0:
            return f"{length_ms // _UNITS_MS[unit]}{unit}"
    return f"{length_ms}ms"
