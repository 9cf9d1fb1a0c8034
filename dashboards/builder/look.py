"""Units, colours and thresholds, in Grafana's words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    """Grafana's identifiers. ``suffix:`` is its way to write a unit that it does not know."""

    COUNT = "short"
    SECONDS = "s"
    MILLISECONDS = "ms"
    DAYS = "d"
    RATIO = "percentunit"
    PERCENT = "percent"
    PER_SECOND = "suffix: /s"
    BYTES = "bytes"
    BYTES_PER_SECOND = "Bps"
    AUDIO_SECONDS = "suffix: audio-s"
    AUDIO_SECONDS_PER_SECOND = "suffix: audio-s/s"
    TIMES = "suffix: ×"
    ROWS = "suffix: rows"


class Color(StrEnum):
    """Of Grafana's palette."""

    GREEN = "green"
    YELLOW = "yellow"
    ORANGE = "orange"
    RED = "red"
    BLUE = "blue"
    PURPLE = "purple"
    SOFT = "text"


class Style(StrEnum):
    """How a series is drawn: a bound is a dashed line that is no measurement."""

    LINE = "line"
    BOUND = "bound"


@dataclass(frozen=True, slots=True)
class Threshold:
    """From ``above`` upwards a value has this colour; None is "from the lowest value"."""

    above: float | None
    color: Color


GOOD = (Threshold(None, Color.GREEN),)
NEUTRAL = (Threshold(None, Color.BLUE),)


def worse_above(warn: float, bad: float) -> tuple[Threshold, ...]:
    """Green, from ``warn`` orange, from ``bad`` red."""
    return (Threshold(None, Color.GREEN), Threshold(warn, Color.ORANGE), Threshold(bad, Color.RED))


def worse_below(warn: float, bad: float) -> tuple[Threshold, ...]:
    """Red below ``bad``, orange below ``warn``, green above."""
    return (Threshold(None, Color.RED), Threshold(bad, Color.ORANGE), Threshold(warn, Color.GREEN))
