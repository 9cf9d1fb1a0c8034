"""The simulator on the same schedule, and both side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from api.limits.promises import tier_services
from autoscaling.demand import DemandPolicy
from autoscaling.simulator.cluster import Cluster
from autoscaling.simulator.replica import Profile
from autoscaling.simulator.tiers import TierService
from autoscaling.simulator.workload import Request
from benchmarks.serve_load.plan import Schedule
from benchmarks.simulator_check.scenario import MAX_REPLICAS, MODEL, Scenario
from dashboards.objectives import load_objectives

POINTS, RATIO = 0.02, 0.10
"""How far apart attainment and replica-seconds may be."""
_ANY = 10_000
"""Of generations of one account at the same time: no account is held back by its own limits."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one of the two says.

    Attributes:
        heard_s: request → seconds until its first audio, of those that were let in.
        replica_s: seconds that replicas existed.
        most: replicas at once.
        ups, downs: seconds at which the autoscaler decided to have more, or fewer.
    """

    heard_s: Mapping[int, float | None]
    replica_s: float
    most: int
    ups: Sequence[float]
    downs: Sequence[float]


@dataclass(frozen=True, slots=True)
class Before:
    """What the platform had seen when the schedule began: its rates are means over a minute, and over ten.

    Attributes:
        since_s: seconds for which it had been there.
        requests: (seconds after its start, audio-seconds) of what it was warmed up with.
    """

    since_s: float = 60.0
    requests: Sequence[tuple[float, float]] = ()


def simulated(
    scenario: Scenario, schedule: Schedule, profile: Profile, accounts: int, before: Before | None = None
) -> Seen:
    """With the queue and the policy that serve, unmodified."""
    before = before or Before()
    since_s = before.since_s
    warm_up = [
        Request(-1 - index, at_s, MODEL, "pro", f"warm-up-{index}", "stream", audio_s)
        for index, (at_s, audio_s) in enumerate(before.requests)
    ]
    later = (replace(each, arrival_s=each.arrival_s + since_s) for each in requests_of(schedule, accounts))
    demand = scenario.model_demand.policy(1, MAX_REPLICAS, 0.0, profile.cold_start_s)
    cluster = Cluster(
        {MODEL: profile}, promises(), DemandPolicy({MODEL: demand}), {MODEL: 1}, knows_starts=scenario.knows_starts
    )
    outcome = cluster.run([*warm_up, *later], since_s + scenario.until_s)
    heard = {
        job.request.id: None if job.heard_s is None else job.heard_s - job.request.arrival_s
        for job in outcome.jobs
        if job.request.id >= 0
    }
    counts = [(sample.at_s - since_s, sample.replicas[MODEL]) for sample in outcome.samples]
    steps = [(at, after - earlier) for (_, earlier), (at, after) in pairwise(counts) if at >= 0]
    # Between ticks nothing is asked for, and whatever goes is gone by the next one.
    total_s = sum(count for at, count in counts if 0 <= at < scenario.until_s)
    return Seen(
        heard,
        float(total_s),
        max(count for at, count in counts if at >= 0),
        [at for at, step in steps if step > 0],
        [at for at, step in steps if step < 0],
    )


def requests_of(schedule: Schedule, accounts: int) -> list[Request]:
    """The schedule's, of so many accounts of each tier."""
    return [
        Request(
            each.number,
            each.at_s,
            MODEL,
            each.tier,
            f"{each.tier}-{each.account % accounts}",
            "stream",
            each.duration_s,
        )
        for each in schedule.requests
    ]


def promises() -> dict[str, TierService]:
    """As the platform keeps them."""
    services = tier_services(load_objectives())
    return {name: replace(each, rule=replace(each.rule, running=_ANY)) for name, each in services.items()}


@dataclass(frozen=True, slots=True)
class Line:
    """One tier, or all of them.

    Attributes:
        real, told: fraction of the streams that were let in that heard something in time: on the platform, and in the
            simulation.
        real_in, told_in: how many were let in.
    """

    tier: str
    asked: int
    real: float
    told: float
    real_in: int
    told_in: int
    real_p95_s: float
    told_p95_s: float

    @property
    def apart(self) -> float:
        return abs(self.real - self.told)


def lines(schedule: Schedule, real: Seen, told: Seen) -> list[Line]:
    """Each tier, then all."""
    services = promises()
    found = []
    for tier in [*services, "all"]:
        mine = [each for each in schedule.requests if tier in (each.tier, "all")]
        limits = {each.number: services[each.tier].first_audio_s for each in mine}
        sides = [{number: seen.heard_s[number] for number in limits if number in seen.heard_s} for seen in (real, told)]
        (share, count, tail), (told_share, told_count, told_tail) = (
            (_share(side, limits), len(side), _p95(side)) for side in sides
        )
        found.append(Line(tier, len(mine), share, told_share, count, told_count, tail, told_tail))
    return found


def _share(heard: Mapping[int, float | None], limits: Mapping[int, float]) -> float:
    in_time = sum(seconds is not None and seconds <= limits[number] for number, seconds in heard.items())
    return in_time / len(heard) if heard else 1.0


def _p95(heard: Mapping[int, float | None]) -> float:
    waits = sorted(float("inf") if seconds is None else seconds for seconds in heard.values())
    return waits[-(-95 * len(waits) // 100) - 1] if waits else 0.0


def holds(found: Sequence[Line], real: Seen, told: Seen) -> bool:
    """Attainment of every tier and of all within 2 points, replica-seconds within 10 %."""
    return all(line.apart <= POINTS for line in found) and abs(told.replica_s / real.replica_s - 1) <= RATIO


def table(found: Sequence[Line], real: Seen, told: Seen) -> str:
    """Markdown."""
    text = [
        "| | asked | first audio in time: platform | simulated | apart | let in | p95, s |",
        "|---|---|---|---|---|---|---|",
    ]
    text += [
        f"| {line.tier} | {line.asked} | {line.real:.1%} | {line.told:.1%} | {100 * line.apart:.1f} points "
        f"| {line.real_in} / {line.told_in} | {line.real_p95_s:.2f} / {line.told_p95_s:.2f} |"
        for line in found
    ]
    ratio = told.replica_s / real.replica_s - 1
    text.append(
        f"| replica-seconds | | {real.replica_s:.0f} | {told.replica_s:.0f} | {ratio:+.1%} | | |\n"
        f"| up, down at | | {_times(real.ups)}, {_times(real.downs)} s | {_times(told.ups)}, {_times(told.downs)} s | "
        "| | |"
    )
    return "\n".join(text)


def _times(seconds: Sequence[float]) -> str:
    return " / ".join(f"{at:.0f}" for at in seconds) or "–"
