"""Numbers as people read them: with the unit, and with as many digits as mean something."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

from dashboards.builder.look import Threshold, Unit

_TIMES: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs"))
_COUNTS: Final = ((1e9, " G"), (1e6, " M"), (1e3, " k"))
_BYTES: Final = ((2**40, " TiB"), (2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"))
_CLOCK: Final = (15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)
_SUFFIX: Final = "suffix:"
_DAY_S: Final = 86400


def figure(value: float, unit: Unit, decimals: int | None = None) -> str:
    """A value with its unit; "–" of what is no number."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = _finite(abs(value), unit, decimals)
    return f"−{text}" if value < 0 and text.strip("0. %") else text


def suffix(unit: Unit) -> str:
    """The unit that Grafana does not know, without a space; "" of any other."""
    return unit.value.removeprefix(_SUFFIX).strip() if unit.value.startswith(_SUFFIX) else ""


def tick(value: float, unit: Unit) -> str:
    """A value at an axis: a long unit is left to the panel's head."""
    return figure(value, Unit.COUNT if suffix(unit) else unit)


def _finite(value: float, unit: Unit, decimals: int | None) -> str:
    if unit is Unit.RATIO:
        return f"{_digits(value * 100, decimals)} %"
    if unit is Unit.PERCENT:
        return f"{_digits(value, decimals)} %"
    if unit in (Unit.SECONDS, Unit.MILLISECONDS, Unit.DAYS):
        return _time(value * {Unit.SECONDS: 1, Unit.MILLISECONDS: 1e-3, Unit.DAYS: _DAY_S}[unit], decimals)
    if unit in (Unit.BYTES, Unit.BYTES_PER_SECOND):
        return _scaled(value, _BYTES, " B", decimals) + ("/s" if unit is Unit.BYTES_PER_SECOND else "")
    return " ".join(filter(None, (_scaled(value, _COUNTS, "", decimals), suffix(unit))))


def _time(value_s: float, decimals: int | None) -> str:
    if value_s == 0:
        return "0 s"
    size, name = next(((size, name) for size, name in _TIMES if abs(value_s) >= size), _TIMES[-1])
    return f"{_digits(value_s / size, decimals)} {name}"


def _scaled(value: float, sizes: tuple[tuple[float, str], ...], base: str, decimals: int | None) -> str:
    size, name = next(((size, name) for size, name in sizes if abs(value) >= size), (1.0, base))
    return f"{_digits(value / size, None if size > 1 else decimals)}{name}"


def _digits(value: float, decimals: int | None) -> str:
    """With ``decimals`` places, or three figures; a share just below 100 keeps what it lacks."""
    if decimals is None:
        decimals = 2 if 99 <= value < 100 else max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
        decimals = min(decimals, 4)
        text = f"{value:.{decimals}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.{decimals}f}"


def color_of(value: float, steps: tuple[Threshold, ...]) -> str:
    """The colour of a value; that of text for what is no number."""
    if math.isnan(value):
        return "text"
    reached = [step for step in steps if step.above is None or value >= step.above]
    return reached[-1].color.value if reached else steps[0].color.value


def ticks(low: float, high: float, count: int, unit: Unit = Unit.COUNT) -> list[float]:
    """About ``count`` round values between two bounds, both of them covered.

    The steps are 1, 2, 2.5 and 5 times a power of ten, and those of a clock for more than a minute.
    """
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    steps: list[float] = [power * digit for digit in (1, 2, 2.5, 5, 10)]
    if unit is Unit.SECONDS and high >= 120 and rough < _CLOCK[-1]:
        steps = list(_CLOCK)
    step = next(step for step in steps if step >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def time_ticks(start: float, end: float, count: int) -> list[tuple[float, str]]:
    """Round moments (unix seconds) with their labels, in UTC."""
    steps = (1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, _DAY_S, 7 * _DAY_S)
    step = next((step for step in steps if (end - start) / step <= count), steps[-1])
    layout = "%d %b" if step >= _DAY_S else "%H:%M" if step >= 60 else "%H:%M:%S"
    first = math.ceil(start / step)
    return [
        (index * step, datetime.fromtimestamp(index * step, UTC).strftime(layout))
        for index in range(first, math.floor(end / step) + 1)
    ]
