"""The policy "demand": how many replicas each model size should have, from the work that is due.

A pure function of signals, settings and the state it returned last time; no clock, no Ray. Per size, in replicas:

``base``      audio-seconds that arrive per second over what a replica makes per second (Little's law in rows).
``headroom``  square-root staffing: beside ``n`` rows in use on average, ``beta · sqrt(n · dispersion)`` more are kept,
              so that a newcomer finds one free (Halfin and Whitt, Operations Research 29, 1981, with the peakedness of
              Whitt, Management Science 38, 1992, estimated by the measured dispersion).
``backlog``   what waits and cannot be made by when it is due, with the replicas that serve and those that are starting
              from when they will serve.
``panic``     while arrivals of the last 20 s exceed 1.4 times what the ready replicas can make, they count instead of
              the minute's, and nothing is taken away for a minute (the two windows of Knative's autoscaler).
``held``      a replica that is not needed is kept for as long as starting it again would cost (ski rental: at most
              twice the cost of knowing the future; Lu, Chen and Andrew, IEEE TPDS 24, 2013), and longer the less of the
              arrivals' variance is chance: headroom is for chance, and where work comes in bursts what the last one
              needed is the best guess at what the next one will.

The sizes then share the GPUs there are (``autoscaling.packing``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from autoscaling.arrivals import MEDIUM_S
from autoscaling.signals import ModelSignals

PANIC_RATIO = 1.4
PANIC_S = 60.0
_HOLD_S = 300.0
"""Through the silences between bursts, and of the last replica: a listener who waits for a start costs more than the
start. Where bursts come every few minutes, 180 s gave the pro tier 98 % of first audio in time and 300 s all of it
(simulated)."""
_LEAST_S = float(MEDIUM_S)
"""Rates are means over so long: whoever forgets a need sooner starts and stops replicas by the noise of them."""
_CLEAR_S = 5.0
"""Seconds within which replicas that are added should have made what is overdue."""


@dataclass(frozen=True, slots=True)
class ModelPolicy:
    """What is known of one model size and wanted of it.

    Attributes:
        rows: streams that a replica serves at once.
        stream_rate: audio-seconds per second of each of them when all rows are taken; at least 1, or they stall.
        cold_start_s: seconds from asking for a replica until it serves.
        min_replicas, max_replicas: limits; 0 as the least lets the size go to zero.
        warm_floor: replicas that are kept whatever happens, for those who must not wait for a cold start.
        beta: of the headroom, in standard deviations of the rows in use.
        break_even_s: seconds for which a replica that is not needed is kept; None: twice its cold start, at least 60,
            and up to 300 where work comes in bursts; the last one for 300 in any case.
        stale_after_s: signals older than this change nothing.
    """

    rows: int
    stream_rate: float
    cold_start_s: float
    min_replicas: int = 0
    max_replicas: int = 1
    warm_floor: int = 0
    beta: float = 1.5
    break_even_s: float | None = None
    stale_after_s: float = 10.0

    def __post_init__(self) -> None:
        if self.rows < 1 or not self.stream_rate > 0 or self.cold_start_s < 0:
            raise ValueError(f"a replica has rows, a rate above 0 and a cold start of 0 or more seconds, got {self}")
        if min(self.min_replicas, self.warm_floor) < 0 or self.least > self.max_replicas:
            raise ValueError(
                f"min_replicas {self.min_replicas} and warm_floor {self.warm_floor} must lie between 0 and "
                f"max_replicas {self.max_replicas}"
            )

    @property
    def least(self) -> int:
        return max(self.min_replicas, self.warm_floor)

    @property
    def capacity(self) -> float:
        """Audio-seconds per second of one replica with all rows taken."""
        return self.rows * self.stream_rate

    @property
    def memory_s(self) -> float:
        """Seconds for which it is known what was needed, and the last replica is kept."""
        return self.break_even_s if self.break_even_s is not None else max(_HOLD_S, 2 * self.cold_start_s)

    def hold_s(self, dispersion: float) -> float:
        """Seconds for which the others are kept."""
        if self.break_even_s is not None:
            return self.break_even_s
        not_by_chance = 1 - 1 / max(1.0, dispersion)  # of the variance of arrivals
        return max(_HOLD_S * not_by_chance, 2 * self.cold_start_s, _LEAST_S)


@dataclass(frozen=True, slots=True)
class ModelState:
    """What the policy remembers of one size: all of it may be lost, and is then learnt again.

    Attributes:
        panic_until: seconds; in panic before it.
        wishes: (time, replicas) of lately, each later and lower than the one before.
        last: what was decided last.
    """

    panic_until: float = -math.inf
    wishes: tuple[tuple[float, int], ...] = ()
    last: int | None = None


@dataclass(frozen=True, slots=True)
class ModelDecision:
    """How many replicas, and why.

    Attributes:
        replicas: to have.
        action: up, down, hold.
        reason: what decided it: demand, backlog, panic, floor, ceiling, held, stale or steady.
        components: in replicas; the sum of ``base`` and ``headroom``, or ``backlog``, is ``wish``.
    """

    replicas: int
    action: str
    reason: str
    components: Mapping[str, float]
    state: ModelState = field(repr=False)


def decide(signals: ModelSignals, policy: ModelPolicy, state: ModelState, now: float) -> ModelDecision:
    """One size, without regard to the others.

    Args:
        now: seconds, on the clock of the state.
    """
    if not signals.is_usable or signals.age_s > policy.stale_after_s:
        return _hold(signals, policy, state)
    panic_until = _panic(signals, policy, state, now)
    components = _components(signals, policy, in_panic=now < panic_until)
    wish = math.ceil(max(components["base"] + components["headroom"], components["backlog"]) - 1e-9)
    wish = max(wish, 1 if signals.running_audio_s > 0 or signals.waiting else 0)
    bounded = min(max(wish, policy.least), policy.max_replicas)
    # Whoever has forgotten everything (the controller was restarted) takes what there is for needed, until it has seen.
    known = state.wishes or ((now, min(max(signals.planned, policy.least), policy.max_replicas)),)
    wishes = _remember(known, now, bounded, policy.memory_s)
    held = _held(wishes, now - policy.hold_s(signals.arrivals.dispersion))
    if state.last is not None:  # what was needed is kept, and not started again when arrivals look less even
        held = max(bounded, min(held, state.last))
    held = min(held, policy.max_replicas)
    if now < panic_until:
        held = max(held, min(signals.planned, policy.max_replicas))
    components = {**components, "wish": wish, "held": held}
    reason = _reason(wish, bounded, held, components, in_panic=now < panic_until)
    new = ModelState(panic_until, wishes, held)
    return ModelDecision(held, _action(held, signals.planned), reason, components, new)


def _hold(signals: ModelSignals, policy: ModelPolicy, state: ModelState) -> ModelDecision:
    """Too old to be believed: what was decided last, or what there is, within the limits."""
    last = state.last if state.last is not None else max(0, signals.ready) + len(signals.starting_in_s)
    replicas = min(max(last, policy.least), policy.max_replicas)
    return ModelDecision(replicas, "hold", "stale", {}, state)


def _panic(signals: ModelSignals, policy: ModelPolicy, state: ModelState, now: float) -> float:
    has = max(signals.ready, 1) * policy.capacity
    return now + PANIC_S if signals.arrivals.short_s > PANIC_RATIO * has else state.panic_until


def _components(signals: ModelSignals, policy: ModelPolicy, *, in_panic: bool) -> dict[str, float]:
    seen = signals.arrivals
    rate = max(seen.medium_s, seen.short_s) if in_panic else seen.medium_s
    rows = rate / policy.stream_rate
    # Between two bursts the last minute knows of none; ten minutes remember how large they were.
    usual_rows = max(rate, seen.long_s) / policy.stream_rate
    headroom_rows = policy.beta * math.sqrt(usual_rows * seen.dispersion)
    return {
        "base": rows / policy.rows,
        "headroom": headroom_rows / policy.rows,
        "backlog": _for_backlog(signals, policy),
        "panic": float(in_panic),
    }


def _for_backlog(signals: ModelSignals, policy: ModelPolicy) -> float:
    """Replicas with which everything that waits is made by when it is due; 0 if nothing waits."""
    if not signals.waiting:
        return 0.0
    needed, due_s = 0.0, signals.running_audio_s
    etas = sorted(signals.starting_in_s)
    begun, begun_s = 0, 0.0  # of the starting ones, how many serve by the horizon, and the sum of when they begin
    for work in sorted(signals.waiting, key=lambda each: each.due_in_s):
        due_s += work.audio_s
        # One that is asked for now serves after its cold start: before that only those count that exist.
        horizon_s = max(work.due_in_s, policy.cold_start_s + _CLEAR_S)
        while begun < len(etas) and etas[begun] < horizon_s:
            begun_s += etas[begun]
            begun += 1
        serving_s = (signals.ready + begun) * horizon_s - begun_s
        missing_s = due_s - policy.capacity * serving_s
        if missing_s > 0:
            added = missing_s / (policy.capacity * (horizon_s - policy.cold_start_s))
            needed = max(needed, signals.planned + added)
    return needed


def _remember(
    wishes: tuple[tuple[float, int], ...], now: float, wish: int, memory_s: float
) -> tuple[tuple[float, int], ...]:
    """The running maximum over the last ``memory_s`` seconds, as a queue that falls from its first to its last."""
    kept = [(at, number) for at, number in wishes if at > now - memory_s and number > wish]
    return (*kept, (now, wish))


def _held(wishes: tuple[tuple[float, int], ...], since: float) -> int:
    """The most that was needed since then, and one replica for as long as anybody remembers a need."""
    most = next((number for at, number in wishes if at > since), wishes[-1][1])
    return max(most, min(wishes[0][1], 1))


def _action(replicas: int, planned: int) -> str:
    if replicas == planned:
        return "hold"
    return "up" if replicas > planned else "down"


def _reason(wish: int, bounded: int, held: int, components: Mapping[str, float], *, in_panic: bool) -> str:
    if bounded < wish:
        return "ceiling"
    if bounded > wish and held == bounded:
        return "floor"
    if in_panic:
        return "panic"
    if held > bounded:
        return "held"
    return "backlog" if components["backlog"] > components["base"] + components["headroom"] else "demand"
