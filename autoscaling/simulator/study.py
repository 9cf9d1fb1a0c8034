"""One configuration of the policy "demand" on several workloads and cold starts, beside what others would have done."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from autoscaling.demand import DemandPolicy
from autoscaling.fairness import TierRule
from autoscaling.simulator.cluster import Autoscaler, Cluster
from autoscaling.simulator.replica import Profile, settings_of
from autoscaling.simulator.report import Report, summarise
from autoscaling.simulator.rivals import FirstCome, RayPolicy, RaySettings, clairvoyant_gpu_s
from autoscaling.simulator.size import Queue
from autoscaling.simulator.tiers import TierService
from autoscaling.simulator.workload import Mix, Request

MODEL = "model"
MAX_REPLICAS = 200
TIERS: Mapping[str, TierService] = {
    "enterprise": TierService(TierRule(0.6, 16.0, 32), 1.0, 10, 1, 5, 60),
    "pro": TierService(TierRule(0.3, 4.0, 4, leaves=0.05), 2.5, 30, 2, 10, 120),
    "free": TierService(TierRule(0.1, 1.0, 1, leaves=0.12), 10.0, 300, 4, 9, 300),
}
"""As in ``api/limits/tiers.yaml`` and ``dashboards/slo.yaml``, which a test sees to."""
OPEN: Mapping[str, TierService] = {
    name: replace(tier, max_stream_wait_s=math.inf, max_wait_s=math.inf) for name, tier in TIERS.items()
}
"""The same promises without a door: Ray Serve refuses nobody unless it is told to."""
LOAD = 0.75
"""Fraction of the streams that a replica takes, at which Ray's policy aims."""
LOWER_LOADS = (0.625, 0.5, 0.375, 0.25)
"""For a service as good; the last is Ray's own default, 2 requests a replica, for one of 8 streams."""
OBJECTIVES = {"enterprise": 0.999, "pro": 0.99, "free": 0.97}
"""Fractions of first audio in time."""
PROMISED = f"first audio in time: {' / '.join(TIERS)} | admitted | all promises"
"""Of a table's heading."""


@dataclass(frozen=True, slots=True)
class Case:
    """One workload on one kind of replica."""

    workload: str
    requests: Sequence[Request]
    profile: Profile
    clairvoyant_gpu_s: float = field(init=False)
    """For all policies alike."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "clairvoyant_gpu_s", clairvoyant_gpu_s(self.requests, {MODEL: self.profile}))

    @property
    def duration_s(self) -> float:
        return self.requests[-1].arrival_s


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    workload: str
    cold_start_s: float
    policy: str
    report: Report

    @property
    def meets(self) -> bool:
        return self.report.keeps(OBJECTIVES)


def study(
    arrivals: Mapping[str, Sequence[float]],
    profile: Profile,
    cold_starts_s: Iterable[float],
    seed: int = 0,
    *,
    grid: bool = False,
    leaving: float = 0.0,
) -> Iterator[Row]:
    """Every workload with every cold start, under each policy, as soon as it is known.

    Args:
        arrivals: workload → arrival times (s, ascending).
        grid: also search Ray's settings for the cheapest that keep all promises on that very workload, which nobody can
            do before the day is over.
        leaving: fraction of the requests whose client leaves before the end.
    """
    mix = Mix({MODEL: 1.0}, leaving=leaving)
    for name, times in arrivals.items():
        requests = mix.requests(times, seed)
        for cold_start_s in cold_starts_s:
            case = Case(name, requests, replace(profile, cold_start_s=cold_start_s))
            demand = run(case, "demand", DemandPolicy({MODEL: settings_of(case.profile, MAX_REPLICAS)}))
            yield demand
            stock = RayPolicy({MODEL: ray_settings(case.profile, LOAD, 30, 600)})
            yield run(case, "Ray, its delays", stock)
            yield as_good(case, demand)
            stock = RayPolicy({MODEL: ray_settings(case.profile, LOAD, 30, 600)})
            yield run(case, "Ray, its delays and line", stock, tiers=OPEN, queue=FirstCome)
            if grid:
                yield tuned(case)


def run(
    case: Case,
    policy: str,
    autoscaler: Autoscaler,
    tiers: Mapping[str, TierService] = TIERS,
    queue: Callable[[], Queue] | None = None,
) -> Row:
    """One line. Every policy begins with one replica more than the mean of the traffic needs, as a platform in use: a
    trace begins at full rate, and whoever had to start from one replica would pay for that alone."""
    audio_s = sum(request.audio_s for request in case.requests)
    initial = 1 + math.ceil(audio_s / case.duration_s / case.profile.capacity)
    cluster = Cluster({MODEL: case.profile}, tiers, autoscaler, {MODEL: initial}, queue=queue)
    outcome = cluster.run(case.requests, case.duration_s)
    return Row(case.workload, case.profile.cold_start_s, policy, summarise(outcome, TIERS, case.clairvoyant_gpu_s))


def ray_settings(profile: Profile, load: float, up_s: float, down_s: float) -> RaySettings:
    """Ray's own policy, aiming at a fraction of the streams that a replica takes, with fast reports."""
    return RaySettings(load * profile.streams, 20.0, 1.0, up_s, down_s, 1, MAX_REPLICAS)


def as_good(case: Case, demand: Row) -> Row:
    """Ray's policy with its delays, aiming at the highest load with which it keeps all promises and refuses no larger
    part of all requests than ``demand`` does; at its own default, the lowest, if there is none."""
    for load in LOWER_LOADS:
        stock = RayPolicy({MODEL: ray_settings(case.profile, load, 30, 600)})
        row = run(case, f"Ray, its delays, as good ({load:.3g})", stock)
        if row.meets and row.report.admitted >= demand.report.admitted:
            break
    return row


def tuned(case: Case) -> Row:
    """The cheapest of a grid of Ray's settings that keeps all promises, or the one that keeps most."""
    rows = [
        run(case, f"Ray, tuned ({load:.2f}, {up_s:g} s, {down_s:g} s)",
            RayPolicy({MODEL: ray_settings(case.profile, load, up_s, down_s)}))
        for load, up_s, down_s in itertools.product((0.35, 0.5, 0.75), (0.0, 10.0), (60.0, 300.0, 900.0))
    ]  # fmt: skip
    keeping = [row for row in rows if row.meets]
    return min(keeping, key=lambda row: row.report.gpu_hours) if keeping else max(rows, key=_worst)


def _worst(row: Row) -> float:
    """How far the tier that is farthest from its promise is from it."""
    return min((tier.first_audio or 1.0) - OBJECTIVES[name] for name, tier in row.report.tiers.items())


def table(rows: Iterable[Row]) -> str:
    """Markdown."""
    lines = [
        f"| workload | cold start | policy | GPU-hours | of clairvoyant | starts | {PROMISED} |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        report = row.report
        ratio = f"{report.of_clairvoyant:.2f} ×" if report.of_clairvoyant is not None else "–"
        cost = f"{report.gpu_hours:.1f} | {ratio} | {report.starts}"
        lines.append(f"| {row.workload} | {row.cold_start_s:g} s | {row.policy} | {cost} | {cells(report)} |")
    return "\n".join(lines)


def cells(report: Report) -> str:
    """Of a table's line, under ``PROMISED``."""
    tiers = report.tiers.values()
    heard = " / ".join(_percent(tier.first_audio) for tier in tiers)
    admitted = " / ".join(_percent(tier.admitted) for tier in tiers)
    return f"{heard} | {admitted} | {'kept' if report.keeps(OBJECTIVES) else 'not kept'}"


def _percent(fraction: float | None) -> str:
    return "–" if fraction is None else f"{100 * fraction:.2f}"
