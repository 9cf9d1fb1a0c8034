"""What a simulation costs, counted in bytecodes and not in seconds: of the fleet only what changes may cost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest

from autoscaling import planner
from autoscaling.fairness import TierRule
from autoscaling.packing import pack
from autoscaling.policy import ModelPolicy, ModelState, decide
from autoscaling.signals import DueWork, ModelSignals
from autoscaling.simulator.cluster import Cluster
from autoscaling.simulator.replica import Profile
from autoscaling.simulator.rivals import Fixed, clairvoyant_gpu_s
from autoscaling.simulator.tiers import TierService
from autoscaling.simulator.workload import Request

TIERS = {"free": TierService(TierRule(1.0, 1, 10**6), 10.0, 300, 4, 1e9, 1e9)}
PROFILE = Profile.from_measured(4, one=10, many=20, many_streams=4, gpu=0.25, cold_start_s=5)


def bytecodes(work: Callable[[], object]) -> int:
    """That the interpreter executes for it; the same each time."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def of_ticks(replicas: int, autoscaler: Callable[[int], Fixed]) -> float:
    """Bytecodes of one tick of a fleet in which every replica has a job that lasts."""

    def run(until_s: float) -> int:
        requests = [Request(index, 0.5, "m", "free", str(index), "stream", 1e6) for index in range(replicas)]
        cluster = Cluster({"m": PROFILE}, TIERS, autoscaler(replicas), {"m": replicas})
        return bytecodes(lambda: cluster.run(requests, until_s))

    return (run(12.0) - run(2.0)) / 10


def test_a_tick_of_a_fleet_that_stays_costs_the_same_however_large_it_is() -> None:
    assert of_ticks(400, lambda number: Fixed({"m": number})) < 1.1 * of_ticks(20, lambda number: Fixed({"m": number}))


class Falling(Fixed):
    """Five fewer at each tick."""

    def __init__(self, replicas: int) -> None:
        self._left = replicas

    def decide(self, signals: Mapping[str, ModelSignals], now: float) -> Mapping[str, int]:
        self._left -= 5 if now >= 1 else 0
        return {"m": self._left}


def test_taking_away_costs_what_is_taken_away() -> None:
    # The GPUs that are looked at to find one that becomes free are 32 at most.
    assert of_ticks(600, Falling) < 1.2 * of_ticks(150, Falling)


def test_packing_ten_thousand_replicas_costs_as_much_as_packing_a_hundred() -> None:
    shares = {"small": 0.25, "medium": 0.5, "odd": 0.3, "large": 1.0}

    def packed(times: int) -> int:
        wanted = {"small": 50 * times, "medium": 20 * times, "odd": 20 * times, "large": 10 * times}
        return bytecodes(lambda: pack(shares, wanted, 100 * times))

    assert packed(100) == pytest.approx(packed(1), rel=0.2)


def test_packing_too_many_costs_at_most_each_replica_once() -> None:
    shares = {"small": 0.25, "large": 1.0}

    def packed(gpus: int) -> int:
        return bytecodes(lambda: pack(shares, {"small": 8 * gpus, "large": gpus}, gpus))

    assert packed(400) < 4.2 * packed(100)


def test_a_decision_costs_what_waits_and_what_starts_but_not_their_product() -> None:
    policy = ModelPolicy(8, 3.0, 60.0, max_replicas=10**6)

    def decided(number: int) -> int:
        waiting = tuple(DueWork(10_000.0, float(due)) for due in range(number))
        signals = ModelSignals(10, tuple(index / 10 for index in range(number)), waiting=waiting)
        return bytecodes(lambda: decide(signals, policy, ModelState(), 0.0))

    assert decided(400) < 4.2 * decided(100)


def test_a_plan_asks_what_a_clairvoyant_needs_once_for_each_cold_start(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def counting(requests: Any, profiles: Mapping[str, Profile]) -> float:
        asked.append(profiles["m"].cold_start_s)
        return clairvoyant_gpu_s(requests, profiles)

    monkeypatch.setattr(planner, "clairvoyant_gpu_s", counting)
    requests = [Request(index, index / 2, "m", "free", str(index), "stream", 5.0) for index in range(40)]
    question = planner.Question(requests, {"m": replace(PROFILE, gpu=1.0)}, TIERS, {"free": 0.97})
    planner.plan(question, [1.0, 30.0])
    assert asked == [5, 1, 30]
