"""Reports of load tests that never were: outcomes are drawn, everything after them is real."""

from __future__ import annotations

import json
import random
from typing import Any

from benchmarks.serve_load.generators import Sent
from benchmarks.serve_load.outcome import Outcome
from benchmarks.serve_load.plan import Planned, Workload, build
from benchmarks.serve_load.result import SCHEMA, evaluate
from dashboards.objectives import load_objectives

WORKLOAD = Workload(
    "poisson",
    8.0,
    50.0,
    tiers={"enterprise": 1, "pro": 2},
    models={"tiny": 1},
    modes={"stream": 4, "async": 1},
    lengths_s={2.0: 1, 4.0: 1},
    faults={"disconnect": 0.05},
)


def report(*, slow: float = 1.0, refused: float = 0.0, seed: int = 0, luck: int = 0, **changes: Any) -> dict[str, Any]:
    """As ``--out`` keeps it.

    Args:
        slow: every time is so many times as long.
        refused: share of the requests.
        seed: of the schedule.
        luck: of everything else.
    """
    workload = Workload(**{**{name: getattr(WORKLOAD, name) for name in WORKLOAD.__slots__}, "seed": seed})
    schedule, rng = build(workload), random.Random(luck)
    outcomes = tuple(_outcome(each, slow, refused, rng) for each in schedule.requests)
    found = evaluate(schedule, Sent(outcomes, (0.001,) * 50, 51.0), load_objectives(), warm_up_s=5.0)
    made = {
        "benchmark": "serve",
        "schema": SCHEMA,
        **found,
        "settings": {**workload.as_dict(), "processes": 1, "timeout_s": 120.0},
        "target": {"url": "http://127.0.0.1:8000", "accounts": {"pro": 1}},
        **changes,
    }
    read: dict[str, Any] = json.loads(json.dumps(made, allow_nan=False))
    return read


def _outcome(planned: Planned, slow: float, refused: float, rng: random.Random) -> Outcome:
    if rng.random() < refused:
        return Outcome(planned, "refused", "system_overloaded", took_s=0.01)
    first_s, took_s = slow * rng.lognormvariate(-1.5, 0.3), slow * rng.uniform(0.5, 1.5)
    if planned.fault is not None:
        return Outcome(planned, "cancelled", took_s=took_s, audio_s=1.0)
    made = Outcome(planned, "completed", took_s=took_s, audio_s=planned.duration_s, lag_s=0.001 * rng.random())
    if planned.mode == "stream":
        made.first_audio_s, made.is_valid = first_s, True
        made.min_slack_s = rng.gauss(1.0, 0.3)
        made.stall_s = max(0.0, -made.min_slack_s)
    return made
