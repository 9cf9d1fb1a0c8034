"""What the controller adds up about its decisions, and what the policy tells it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from api.telemetry.catalogue import metric
from deployments.demand_metrics import DecisionMeter, Standing

GPU = "tutti_gpu_seconds_total"
REPLICAS = "tutti_autoscaler_replicas"
DECISIONS = "tutti_autoscaler_decisions_total"


def standing(*ready: str, busy: int = 0, starting: int = 0, serves_in_s: float = 0.0) -> Standing:
    return Standing(len(ready) + starting, frozenset(ready), busy, starting, serves_in_s, gpu_share=0.5)


@pytest.fixture
def meter() -> DecisionMeter:
    return DecisionMeter()


def test_gpus_are_paid_for_from_the_start_of_a_replica_to_its_end(meter: DecisionMeter) -> None:
    meter.look({"small": standing("a", starting=1)}, 100.0)
    meter.look({"small": standing("a", "b", busy=1)}, 104.0)
    meter.look({"small": standing("b")}, 106.0)
    meter.heard_of({"a", "b"})
    meter.look({"small": standing("b")}, 107.0)
    meter.heard_of({"b"})
    meter.look({"small": standing("b")}, 109.0)
    grown, _ = meter.read()
    seconds = {state: grown[GPU]["small", state] for state in ("busy", "idle", "starting", "draining")}
    assert seconds == {"idle": 2.0 + 1.0 + 0.5 + 1.0, "starting": 2.0, "busy": 1.0, "draining": 0.5}


def test_what_is_read_is_not_read_again_and_a_pause_is_not_paid_for(meter: DecisionMeter) -> None:
    meter.look({"small": standing("a")}, 100.0)
    meter.look({"small": standing("a")}, 101.0)
    assert meter.read()[0][GPU]["small", "idle"] == 0.5
    assert meter.read()[0] == {}
    meter.look({"small": standing("a")}, 10_000.0)
    assert meter.read()[0][GPU]["small", "idle"] == 5.0
    meter.look({"small": standing("a")}, 9_000.0)  # the clock was set back
    assert meter.read()[0][GPU]["small", "idle"] == 0.0


def test_replicas_by_state(meter: DecisionMeter) -> None:
    meter.look({"small": standing("a", "b"), "large": standing(starting=2)}, 100.0)
    meter.look({"small": standing("b", starting=1)}, 101.0)
    meter.heard_of({"a", "b", "a stranger"})
    meter.decided("small", {"base": 1.5, "wish": 2, "panic": 1.0}, "hold", "demand", changed=False)
    grown, gauges = meter.read()
    states = {state: gauges[REPLICAS]["small", state] for state in ("desired", "ready", "starting", "draining")}
    assert states == {"desired": 2, "ready": 1, "starting": 1, "draining": 1}
    assert {number for (model, _), number in gauges[REPLICAS].items() if model == "large"} == {0.0}  # served no more
    parts = gauges["tutti_autoscaler_demand_replicas"].items()
    demand = {component: number for (model, component), number in parts if model == "small"}
    assert demand == {"base": 1.5, "headroom": 0.0, "backlog": 0.0, "wish": 2, "held": 0.0}
    assert DECISIONS not in grown


def test_a_decision_counts_when_it_is_a_new_one(meter: DecisionMeter) -> None:
    for changed in (True, False, True):
        meter.decided("small", {}, "up", "backlog", changed=changed)
    assert meter.read()[0][DECISIONS] == {("small", "up", "backlog"): 2.0}


def test_since_when_a_replica_serves(meter: DecisionMeter) -> None:
    meter.look({"small": standing(starting=1, serves_in_s=7.0)}, 100.0)
    assert meter.starts() == {"small": (7.0, None)}
    meter.look({"small": standing("a")}, 108.0)
    meter.look({"small": standing("a", "b")}, 109.0)
    assert meter.starts() == {"small": (0.0, 108.0)}
    meter.look({"small": standing(serves_in_s=9.0)}, 110.0)
    assert meter.starts() == {"small": (9.0, None)}


def test_when_those_that_start_should_serve(meter: DecisionMeter) -> None:
    due = ((112.0, 2), (115.0, 1))
    meter.look({"small": replace(standing("a", starting=3), due=due), "large": standing("b")}, 100.0)
    assert meter.due() == {"small": due}
    meter.look({"small": standing("a", "c")}, 113.0)
    assert meter.due() == {}


def test_starts_and_those_over_their_budget(meter: DecisionMeter) -> None:
    meter.look({"small": standing(starting=1)}, 100.0)
    assert meter.read()[1]["tutti_autoscaler_start_seconds"] == {}
    for took_s, over_budget in ((44.0, False), (46.5, True), (48.0, True), (43.0, False)):
        meter.started("small", took_s, over_budget=over_budget)
    grown, gauges = meter.read()
    assert gauges["tutti_autoscaler_start_seconds"] == {("small",): 43.0}
    assert grown["tutti_autoscaler_starts_over_budget_total"] == {("small",): 2.0}
    assert meter.zeros()["tutti_autoscaler_starts_over_budget_total"] == {("small",): 0.0}
    assert meter.read()[1]["tutti_autoscaler_start_seconds"] == {("small",): 43.0}


def test_every_series_is_one_of_the_catalogue(meter: DecisionMeter) -> None:
    for now in (100.0, 101.0):
        meter.look({"small": standing("a")}, now)
    meter.decided("small", {}, "up", "demand", changed=True)
    meter.started("small", 60.0, over_budget=True)
    grown, gauges = meter.read()
    zeros = meter.zeros()
    assert grown[GPU].keys() <= zeros[GPU].keys()
    assert grown[DECISIONS].keys() <= zeros[DECISIONS].keys()
    for name, series in {**zeros, **gauges}.items():
        for labels in series:
            told = dict(zip(metric(name).labels, labels, strict=True))
            for label, value in told.items():
                allowed = metric(name).allowed(label)
                assert allowed is None or value in allowed
    assert {reason for _, _, reason in zeros[DECISIONS]} == set(metric(DECISIONS).values["reason"])
