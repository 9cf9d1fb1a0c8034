"""What the policy is held against: Ray Serve's own autoscaling, a fixed number of replicas, and knowing the future."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autoscaling.fairness import Slots, Waiting
from autoscaling.signals import ModelSignals
from autoscaling.simulator.replica import Profile
from autoscaling.simulator.workload import Request


class Fixed:
    """Always as many."""

    tick_s = 1.0

    def __init__(self, replicas: Mapping[str, int]) -> None:
        self._replicas = dict(replicas)

    def decide(self, signals: Mapping[str, ModelSignals], now: float) -> Mapping[str, int]:
        return self._replicas


class FirstCome:
    """The line before Ray Serve's replicas: whoever came first is next, whatever its tier and however much its account
    has; it never ends. In the place of ``autoscaling.fair_queue.FairQueue``."""

    def __init__(self) -> None:
        self._line: dict[str, tuple[str, str, Waiting]] = {}  # dictionaries keep the order of arrival
        self._audio_s: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._line)

    def waiting_audio_s(self, tier: str) -> float:
        return self._audio_s.get(tier, 0.0)

    def push(self, account: str, tier: str, request: Waiting) -> None:
        self._line[request.generation_id] = (account, tier, request)
        self._audio_s[tier] = self.waiting_audio_s(tier) + request.audio_s

    def cancel(self, account: str, request: Waiting) -> None:
        _, tier, _ = self._line.pop(request.generation_id)
        self._audio_s[tier] -= request.audio_s

    def pop(self, slots: Slots) -> tuple[str, Waiting] | None:
        """The first; there is room for one more, or nobody would ask."""
        account, _, request = next(iter(self._line.values()))
        self.cancel(account, request)
        return account, request

    def finished(self, account: str) -> None:
        """Nobody counts."""

    def refund(self, account: str, audio_s: float) -> None:
        """Nobody was charged."""


@dataclass(frozen=True, slots=True)
class RaySettings:
    """``autoscaling_config`` of Ray Serve 2.60, with its defaults."""

    target_ongoing_requests: float = 2.0
    look_back_period_s: float = 30.0
    metrics_interval_s: float = 10.0
    upscale_delay_s: float = 30.0
    downscale_delay_s: float = 600.0
    min_replicas: int = 1
    max_replicas: int = 100


@dataclass(slots=True)
class _RayState:
    seen: deque[tuple[float, float]] = field(default_factory=deque)
    reported: tuple[float, float] = (-math.inf, 0.0)
    target: int | None = None
    """None: before the first decision, which takes what there is as Ray takes ``initial_replicas``."""
    up_since: float | None = None
    down_since: float | None = None


class RayPolicy:
    """Ray Serve's default policy: requests, running and queued, per replica over a look-back window against a target; a
    change is made only when the wish for it has lasted for its delay."""

    def __init__(self, settings: Mapping[str, RaySettings], tick_s: float = 1.0) -> None:
        self.tick_s = tick_s
        self._settings = dict(settings)
        self._states = {model: _RayState() for model in settings}

    def decide(self, signals: Mapping[str, ModelSignals], now: float) -> dict[str, int]:
        return {name: self._of(self._settings[name], self._states[name], seen, now) for name, seen in signals.items()}

    def _of(self, settings: RaySettings, state: _RayState, seen: ModelSignals, now: float) -> int:
        if state.target is None:
            state.target = min(max(seen.planned, settings.min_replicas), settings.max_replicas)
        if now - state.reported[0] >= settings.metrics_interval_s:
            state.reported = (now, seen.running + seen.queued)
        state.seen.append((now, state.reported[1]))
        while state.seen[0][0] < now - settings.look_back_period_s:
            state.seen.popleft()
        ongoing = sum(number for _, number in state.seen) / len(state.seen)
        wish = math.ceil(ongoing / settings.target_ongoing_requests)
        wish = min(max(wish, settings.min_replicas), settings.max_replicas)
        state.up_since = (now if state.up_since is None else state.up_since) if wish > state.target else None
        state.down_since = (now if state.down_since is None else state.down_since) if wish < state.target else None
        if state.up_since is not None and now - state.up_since >= settings.upscale_delay_s:
            state.target, state.up_since = wish, None
        if state.down_since is not None and now - state.down_since >= settings.downscale_delay_s:
            state.target, state.down_since = wish, None
        return state.target


def clairvoyant_gpu_s(requests: Sequence[Request], profiles: Mapping[str, Profile]) -> float:
    """GPU-seconds of somebody who knows all arrivals: everyone starts at once, at the pace of a full replica, and a
    replica is kept through a gap exactly if that is cheaper than starting it again.

    It is a bound for policies that let nobody wait, not a schedule: whoever lets jobs wait can need less.
    """
    return sum(profile.gpu * _replica_s(requests, name, profile) for name, profile in profiles.items())


def _replica_s(requests: Sequence[Request], model: str, profile: Profile) -> float:
    pace = profile.rate(profile.streams)
    mine = [request for request in requests if request.model == model]
    changes = [(request.arrival_s, 1) for request in mine]
    changes += [(request.arrival_s + profile.overhead_s + request.audio_s / pace, -1) for request in mine]
    total_s, busy, levels = 0.0, 0, 0
    began: list[float] = []
    ended: list[float] = []  # level → when it was needed last
    for at, change in sorted(changes):
        busy += change
        needed = -(-busy // profile.streams)
        while needed > levels:
            if levels == len(began):
                began.append(at)
                ended.append(-math.inf)
            gap_s = at - ended[levels]
            total_s += min(gap_s, profile.cold_start_s)
            began[levels] = at
            levels += 1
        while needed < levels:
            levels -= 1
            total_s += at - began[levels]
            ended[levels] = at
    return total_s
