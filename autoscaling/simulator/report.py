"""What came out of a simulation: for each tier how many got what they were promised, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from autoscaling.simulator.cluster import Outcome
from autoscaling.simulator.replica import Job
from autoscaling.simulator.tiers import TierService


@dataclass(frozen=True, slots=True)
class TierReport:
    """Of clients that leave before they were due nothing is counted but that they were admitted.

    Attributes:
        asked: requests that came.
        admitted: fraction that was not refused at the door.
        first_audio: of the admitted ones with a listener, the fraction that heard something in time; None: none came.
        first_audio_p95_s: seconds until they did.
        deadline: of the admitted others, the fraction that was done in time; None: none came.
    """

    asked: int
    admitted: float
    first_audio: float | None
    first_audio_p95_s: float | None
    deadline: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """
    Attributes:
        gpu_hours: starting and draining replicas included, each by its share of a GPU.
        held_gpu_hours: of whole GPUs, for as long as there was a replica on them: what is paid for.
        of_clairvoyant: the former over what somebody needs who knows the future.
        starts: of replicas.
    """

    tiers: Mapping[str, TierReport]
    gpu_hours: float
    held_gpu_hours: float
    of_clairvoyant: float | None
    starts: int

    @property
    def admitted(self) -> float:
        """Fraction of all requests that was not refused at the door."""
        asked = sum(tier.asked for tier in self.tiers.values())
        return sum(tier.admitted * tier.asked for tier in self.tiers.values()) / asked if asked else 1.0

    def keeps(self, objectives: Mapping[str, float]) -> bool:
        """All tiers heard something in time, as often as promised.

        Args:
            objectives: tier → fraction that is.
        """
        return all(
            tier.first_audio is None or tier.first_audio >= objectives[name] for name, tier in self.tiers.items()
        )

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def summarise(outcome: Outcome, tiers: Mapping[str, TierService], clairvoyant_gpu_s: float | None = None) -> Report:
    """Every tier that asked for something, in the order of ``tiers``."""
    jobs: dict[str, list[Job]] = {name: [] for name in tiers}
    for job in outcome.jobs:
        jobs[job.request.tier].append(job)
    for request in outcome.left:
        jobs[request.tier].append(Job(request, math.inf, left_s=request.arrival_s + request.stays_s))
    refused = dict.fromkeys(tiers, 0)
    for request in outcome.refused:
        refused[request.tier] += 1
    reports = {name: _tier(jobs[name], refused[name], tiers[name]) for name in tiers if jobs[name] or refused[name]}
    ratio = outcome.gpu_s / clairvoyant_gpu_s if clairvoyant_gpu_s else None
    return Report(reports, outcome.gpu_s / 3600, outcome.held_gpu_s / 3600, ratio, outcome.starts)


def _tier(jobs: list[Job], refused: int, service: TierService) -> TierReport:
    waits = sorted(
        (job.heard_s if job.heard_s is not None else math.inf) - job.request.arrival_s
        for job in jobs
        if job.request.mode == "stream" and not (job.heard_s is None and _gave_up(job, service))
    )
    lates = [
        job.done_s is not None and job.done_s - job.request.arrival_s <= service.due_s(job.request)
        for job in jobs
        if job.request.mode != "stream" and not _gave_up(job, service)
    ]
    return TierReport(
        len(jobs) + refused,
        len(jobs) / (len(jobs) + refused),
        sum(wait <= service.first_audio_s for wait in waits) / len(waits) if waits else None,
        waits[max(0, -(-95 * len(waits) // 100) - 1)] if waits else None,
        sum(lates) / len(lates) if lates else None,
    )


def _gave_up(job: Job, service: TierService) -> bool:
    """Before anything was due."""
    return job.left_s is not None and job.left_s - job.request.arrival_s < service.due_s(job.request)
