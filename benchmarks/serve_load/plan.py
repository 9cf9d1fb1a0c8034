"""What is sent and when: the whole schedule, computed from a seed before anything is sent."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, TypeVar

from benchmarks.arrivals import PROCESSES, gamma, on_off, read_trace, replay, unevenness
from benchmarks.workload import PROMPTS
from models.errors import TuttiError

_T = TypeVar("_T")

Mode = Literal["stream", "async", "wait"]
Fault = Literal["slow", "disconnect", "storm", "duplicate"]
MODES: tuple[Mode, ...] = ("stream", "async", "wait")
FAULTS: tuple[Fault, ...] = ("slow", "disconnect", "storm", "duplicate")
TRACE = "trace"
PROFILES = (*PROCESSES, TRACE)


class PlanError(TuttiError):
    """What was asked for is no load."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One request.

    Attributes:
        at_s: seconds after the start at which it is sent, whatever happens before.
        account: which of its tier's accounts sends it; any number, taken modulo how many there are.
        mode: stream: audio back while it is made; async: a job that is asked for until it is done; wait: a job whose
            creation waits for it (``Prefer: wait``).
        fault: what its client does wrong; None: nothing.
        turn: in [0, 1): where in its course the fault comes.
    """

    number: int
    at_s: float
    tier: str
    account: int
    model: str | None
    mode: Mode
    duration_s: float
    prompt: str
    seed: int
    fault: Fault | None = None
    turn: float = 0.0


@dataclass(frozen=True, slots=True)
class Workload:
    """What a load is made of. Mixes are weights: 1 and 3 are a quarter and three quarters.

    Attributes:
        profile: one of PROFILES.
        rate: arrivals a second on average; None for a trace as it is.
        cv: of the gaps, for the profiles "conversation" and "code"; None takes the profile's own.
        trace: a file, for the profile "trace"; begun at ``trace_offset_s`` of its own time.
        faults: share of the requests, by kind.
    """

    profile: str
    rate: float | None
    duration_s: float
    seed: int = 0
    cv: float | None = None
    trace: Path | None = None
    trace_offset_s: float = 0.0
    tiers: Mapping[str, float] = field(default_factory=lambda: {"enterprise": 1.0})
    models: Mapping[str, float] = field(default_factory=dict)
    modes: Mapping[Mode, float] = field(default_factory=lambda: {"stream": 1.0})
    lengths_s: Mapping[float, float] = field(default_factory=lambda: {4.0: 1.0})
    faults: Mapping[Fault, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "profile": self.profile,
            "rate": self.rate,
            "duration_s": self.duration_s,
            "seed": self.seed,
            "cv": self.cv,
            "trace": None if self.trace is None else self.trace.name,
            "trace_offset_s": self.trace_offset_s,
            "tiers": dict(self.tiers),
            "models": dict(self.models),
            "modes": dict(self.modes),
            "lengths_s": {f"{length:g}": weight for length, weight in self.lengths_s.items()},
            "faults": dict(self.faults),
        }


@dataclass(frozen=True, slots=True)
class Schedule:
    """All requests of a run, in the order in which they are sent."""

    requests: tuple[Planned, ...]
    duration_s: float

    @property
    def audio_s(self) -> float:
        """Seconds of music asked for."""
        return sum(each.duration_s for each in self.requests)

    @property
    def digest(self) -> str:
        """Tells schedules apart; the same for the same workload on any machine."""
        return hashlib.sha256(repr([astuple(each) for each in self.requests]).encode()).hexdigest()[:16]

    def share(self, index: int, count: int) -> tuple[Planned, ...]:
        """What one of ``count`` processes sends: every count-th request, so that bursts are shared as well."""
        return self.requests[index::count]

    def as_dict(self) -> dict[str, Any]:
        known = {
            name: None if value is None else round(value, 4)
            for name, value in unevenness([each.at_s for each in self.requests], self.duration_s).items()
        }
        offered = {"requests": len(self.requests), "audio_s": round(self.audio_s, 3)}
        return {**offered, **known, "offered_audio_s_per_s": self.audio_s / self.duration_s, "digest": self.digest}


def build(workload: Workload) -> Schedule:
    """The schedule of a workload. What the n-th request is does not depend on when it is sent.

    Raises:
        PlanError, TraceError: nothing would be sent, or what would be is not clear.
        OSError: the trace can not be read.
    """
    times = _times(workload)
    if not times:
        raise PlanError(
            f"nobody comes within {workload.duration_s:g} s with profile {workload.profile!r}: "
            "take a longer duration, a higher rate, or another seed"
        )
    faults = sum(workload.faults.values())
    if faults > 1:
        raise PlanError(f"shares of faulty clients add up to {faults:g}: at most 1")
    return Schedule(tuple(_planned(workload, number, at_s) for number, at_s in enumerate(times)), workload.duration_s)


def _times(workload: Workload) -> list[float]:
    if workload.profile == TRACE:
        if workload.trace is None:
            raise PlanError("the profile 'trace' needs a file: --trace FILE")
        return replay(read_trace(workload.trace), workload.rate, workload.duration_s, workload.trace_offset_s)
    if workload.rate is None:
        raise PlanError(f"the profile {workload.profile!r} needs a rate: --rate N (requests a second)")
    given = (workload.rate, workload.duration_s, workload.seed)
    if workload.cv is None:
        return PROCESSES[workload.profile](*given)
    try:
        return {"conversation": gamma, "code": on_off}[workload.profile](*given, workload.cv)
    except KeyError:
        raise PlanError("a CV can be given to the profiles 'conversation' and 'code' only") from None
    except ValueError as error:
        raise PlanError(str(error)) from None


def _planned(workload: Workload, number: int, at_s: float) -> Planned:
    # A generator for each request: its nature depends on the seed and its number alone.
    rng = random.Random(f"{workload.seed} {number}")
    tier, mode = _draw(workload.tiers, rng), _draw(workload.modes, rng)
    model = _draw(workload.models, rng) if workload.models else None
    length_s = _draw(workload.lengths_s, rng)
    fault = _fault(workload.faults, rng.random())
    if fault in {"slow", "disconnect"}:
        mode = "stream"  # who does not listen can not be slow at it
    prompt = f"{PROMPTS[number % len(PROMPTS)]}, take {workload.seed}-{number}"
    seed = rng.randrange(2**31)
    return Planned(
        number, round(at_s, 6), tier, number, model, mode, length_s, prompt, seed, fault, round(rng.random(), 6)
    )


def _draw(mix: Mapping[_T, float], rng: random.Random) -> _T:
    return rng.choices(list(mix), list(mix.values()))[0]


def _fault(shares: Mapping[Fault, float], point: float) -> Fault | None:
    for name, upto in zip(shares, accumulate(shares.values()), strict=True):
        if point < upto:
            return name
    return None
