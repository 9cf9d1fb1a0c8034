"""When requests are sent in an open loop: arrival processes, seeded, computed before anything is sent. Plain Python.

Every process has ``rate`` arrivals a second on average and gives ascending seconds in [0, ``seconds``). They differ in
how uneven they are: the coefficient of variation (CV) of the gaps is 0 for a constant rate, 1 for Poisson, 1.1 for
people who talk with an assistant and 13.2 for tools that complete code (Azure's LLM inference traces of 2023; Patel et
al., "Splitwise", ISCA 2024). Who tests with Poisson alone has not met a burst.
"""

from __future__ import annotations

import csv
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import fmean, pstdev

from models.errors import TuttiError

CONVERSATION_CV = 1.1
CODE_CV = 13.2
_BURST_SHARE = 1 / 26  # of the time somebody sends at all: the trace's busiest second is 26 times the mean
_DAY_SWING = 0.6  # the busiest hour of a day has 1.6 times the mean, the quietest 0.4 times
_FLASH_AT, _FLASH_LENGTH, _FLASH_HEIGHT = 0.6, 0.08, 4.0  # of the day, of the day, of the rate then


class TraceError(TuttiError):
    """A file is no trace of arrivals."""


def constant(rate: float, seconds: float, seed: int = 0) -> list[float]:
    """Even gaps; the seed moves the whole row by less than one of them."""
    first = random.Random(seed).random() / rate
    return [at for index in range(math.ceil(rate * seconds)) if (at := first + index / rate) < seconds]


def poisson(rate: float, seconds: float, seed: int = 0) -> list[float]:
    """Independent callers: exponential gaps."""
    rng = random.Random(seed)
    return _renewals(lambda: rng.expovariate(rate), seconds)


def gamma(rate: float, seconds: float, seed: int = 0, cv: float = CONVERSATION_CV) -> list[float]:
    """Gamma gaps of this CV: above 1 in clusters, below 1 more even than Poisson."""
    rng, shape = random.Random(seed), cv**-2
    return _renewals(lambda: rng.gammavariate(shape, 1 / (rate * shape)), seconds)


def on_off(rate: float, seconds: float, seed: int = 0, cv: float = CODE_CV) -> list[float]:
    """Bursts between silences: a Poisson process that is switched on and off at exponential times. Begins with a burst.

    On for 1/26 of the time, at 26 times the rate. An interrupted Poisson process with rate λ while on, left at rate ω₁
    and come back to at ω₂, has hyperexponential gaps with CV² = 1 + 2 λ ω₁ / (ω₁ + ω₂)² (Fischer & Meier-Hellstern,
    "The MMPP cookbook", Performance Evaluation 18, 1993); that gives the lengths.

    Raises:
        ValueError: no such process has gaps more even than Poisson's.
    """
    if cv <= 1:
        raise ValueError(f"bursts have a CV above 1, got {cv:g}: use 'gamma' or 'constant'")
    rng, within = random.Random(seed), rate / _BURST_SHARE
    change = 2 * within * (1 - _BURST_SHARE) / (cv**2 - 1)  # ω₁ + ω₂
    times: list[float] = []
    began = 0.0
    while began < seconds:
        ends = began + rng.expovariate((1 - _BURST_SHARE) * change)
        at = began
        while (at := at + rng.expovariate(within)) < min(ends, seconds):
            times.append(at)
        began = ends + rng.expovariate(_BURST_SHARE * change)
    return times


def diurnal(rate: float, seconds: float, seed: int = 0) -> list[float]:
    """A day in ``seconds``, from quietest to quietest hour, with a flash crowd of 4 times the rate at 0.6 of it.

    A Poisson process of varying rate, by thinning (Lewis & Shedler, Naval Research Logistics 26, 1979).
    """
    rng = random.Random(seed)
    steps = [_day((index + 0.5) / 2000) for index in range(2000)]
    scale, most = rate / fmean(steps), max(steps)
    offered = _renewals(lambda: rng.expovariate(scale * most), seconds)
    return [at for at in offered if rng.random() * most < _day(at / seconds)]


def _day(part: float) -> float:
    """Rate at this part of the day, in multiples of its mean without the flash crowd."""
    calm = 1 - _DAY_SWING * math.cos(2 * math.pi * part)
    since = (part - _FLASH_AT) / _FLASH_LENGTH
    return calm * (1 + (_FLASH_HEIGHT - 1) * (1 - since)) if 0 <= since < 1 else calm


Process = Callable[[float, float, int], list[float]]
PROCESSES: dict[str, Process] = {
    "steady": constant,
    "poisson": poisson,
    "conversation": gamma,
    "code": on_off,
    "diurnal": diurnal,
}


def _renewals(gap: Callable[[], float], seconds: float) -> list[float]:
    at, times = 0.0, []
    while (at := at + gap()) < seconds:
        times.append(at)
    return times


# ------------------------------------------------------------------------------------------------------------- traces
def read_trace(path: Path) -> list[float]:
    """Seconds since the first arrival, ascending.

    Args:
        path: CSV with a head line and a column ``arrival_s`` (seconds) or ``TIMESTAMP`` (date and time, as in Azure's
            own files); other columns are not looked at.

    Raises:
        TraceError: what is wrong, and in which line.
        OSError: it can not be read.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        column = next((name for name in ("arrival_s", "TIMESTAMP") if name in (rows.fieldnames or ())), None)
        if column is None:
            raise TraceError(f"{path} is no trace: its first line must name a column 'arrival_s' or 'TIMESTAMP'")
        times = sorted(_moment(path, rows.line_num, row[column]) for row in rows)
    if len(times) < 2:
        raise TraceError(f"{path} has {len(times)} arrivals: a trace has at least two")
    return [at - times[0] for at in times]


def _moment(path: Path, line: int, text: str | None) -> float:
    try:
        at = float(text or "")
    except ValueError:
        at = _date(text or "")
    if not math.isfinite(at):
        raise TraceError(f"{path}, line {line}: {text!r} is neither a number of seconds nor a date and time")
    return at


def _date(text: str) -> float:
    """NaN if it is none. Azure writes seven decimals, of which Python reads six."""
    whole, point, part = text.strip().partition(".")
    try:
        return datetime.fromisoformat(f"{whole}+00:00").timestamp() + (float(f"0.{part}") if point else 0.0)
    except ValueError:
        return math.nan


def replay(trace: Sequence[float], rate: float | None, seconds: float, offset_s: float = 0.0) -> list[float]:
    """A stretch of a trace.

    Args:
        rate: the trace is sped up or slowed down as a whole until it has so many arrivals a second on average; None
            leaves it as it is.
        offset_s: where the stretch begins, in the trace's own time.
    """
    speed = 1.0 if rate is None else rate * trace[-1] / (len(trace) - 1)
    return [scaled for at in trace if 0 <= (scaled := (at - offset_s) / speed) < seconds]


# ------------------------------------------------------------------------------------------------------------ to know
def unevenness(times: Sequence[float], seconds: float) -> dict[str, float | None]:
    """What a schedule turned out to be: arrivals a second, CV of the gaps, and its busiest second over the mean one."""
    gaps = [later - earlier for earlier, later in pairwise(times)]
    mean = fmean(gaps) if gaps else 0.0
    busiest = max(Counter(int(at) for at in times).values(), default=0)
    return {
        "rate": len(times) / seconds,
        "cv": pstdev(gaps) / mean if mean > 0 else None,
        "peak_to_mean": busiest * seconds / len(times) if times else None,
    }
