"""What both are given: one to two replicas of the tiny model, little traffic, much, and little again."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from autoscaling.simulator.workload import thinned
from benchmarks.serve_load.plan import Schedule, Workload, build
from deployments.demand_settings import ModelDemand

MODEL = "tiny"
STREAMS = 2
"""Of a replica: its rows, not the machine's cores, are what is short."""
MAX_REPLICAS = 2
LENGTHS_S = {3.0: 0.4, 5.0: 0.4, 8.0: 0.2}
TIERS = {"enterprise": 0.2, "pro": 0.3, "free": 0.5}


@dataclass(frozen=True, slots=True)
class Scenario:
    """
    Attributes:
        low, high: requests per second, before and after the ramp, and at its height.
        calm_s, crowd_s, after_s: seconds of each, and how long is looked on when the last request has come.
        capacity: audio-seconds per second that the policy is told a replica makes.
        tail_s: looked on after the last request, for the replicas that are taken away.
        knows_starts: the platform's door hears of replicas that start.
    """

    low: float
    high: float
    capacity: float
    calm_s: float = 40.0
    crowd_s: float = 100.0
    after_s: float = 90.0
    tail_s: float = 10.0
    seed: int = 0
    demand: dict[str, Any] = field(
        default_factory=lambda: {"cold_start_s": 20, "beta": 0.5, "break_even_s": 15, "warm_floor": 0, "gpu_share": 0}
    )

    knows_starts: bool = True

    @property
    def duration_s(self) -> float:
        """Of the traffic."""
        return self.calm_s + self.crowd_s + self.after_s

    @property
    def until_s(self) -> float:
        return self.duration_s + self.tail_s

    @property
    def model_demand(self) -> ModelDemand:
        return ModelDemand(streams=STREAMS, stream_rate=self.capacity / STREAMS, **self.demand)

    def rate(self, at_s: float) -> float:
        return self.high if self.calm_s <= at_s < self.calm_s + self.crowd_s else self.low

    def schedule(self, folder: Path) -> Schedule:
        """The same for the same scenario."""
        arrivals = thinned(self.rate, max(self.low, self.high), self.duration_s, self.seed)
        trace = folder / "arrivals.csv"
        with trace.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["arrival_s"])
            rows.writerows([round(at, 6)] for at in arrivals)
        return build(Workload("trace", None, self.duration_s, self.seed, trace=trace, tiers=TIERS, lengths_s=LENGTHS_S))

    def serve_config(self, base: Path, folder: Path) -> Path:
        """The repository's own, with one model whose replicas play two streams each on a core of their own."""
        config = yaml.safe_load(base.read_text(encoding="utf-8"))
        application = config["applications"][0]
        tiny = application["args"]["models"][MODEL]
        application["args"]["models"] = {MODEL: tiny}
        tiny["engine"].update(max_rows=2 * STREAMS, num_threads=1, weights="fp32")
        tiny["deployment"].update(max_ongoing_requests=STREAMS, max_queued_requests=1000, health_check_period_s=1)
        tiny["deployment"].update(graceful_shutdown_wait_loop_s=0.1, graceful_shutdown_timeout_s=700)
        tiny["deployment"]["autoscaling_config"].update(min_replicas=1, max_replicas=MAX_REPLICAS)
        demand = {"streams": STREAMS, "stream_rate": self.capacity / STREAMS, **self.demand}
        application["autoscaling_policy"]["policy_kwargs"] = {"models": {MODEL: demand}}
        path = folder / "serve.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path
