"""How large a platform can be simulated: traffic that needs so many replicas, in so many requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoscaling.demand import DemandPolicy, Fleet
from autoscaling.simulator.cluster import Cluster
from autoscaling.simulator.replica import Profile, settings_of
from autoscaling.simulator.report import summarise
from autoscaling.simulator.study import OBJECTIVES, TIERS
from autoscaling.simulator.workload import Diurnal, Mix, Request

SIZES = {
    "small": Profile.from_measured(8, one=10, many=30, many_streams=8, gpu=0.25, cold_start_s=30),
    "large": Profile.from_measured(4, one=4, many=10, many_streams=4, gpu=1.0, cold_start_s=60),
}
_WEIGHTS = {"small": 0.6, "large": 0.4}
_MEAN_AUDIO_S = Mix(_WEIGHTS).mean_audio_s
_SWING = 0.2


@dataclass(frozen=True, slots=True)
class Done:
    """What was simulated.

    Attributes:
        most_replicas, most_gpus: at once.
        events: that happened.
        meets: all tiers heard something in time, as often as promised.
    """

    requests: int
    hours: float
    most_replicas: int
    most_gpus: int
    starts: int
    events: int
    refused: int
    meets: bool

    def in_words(self) -> str:
        kept = "kept" if self.meets else "not kept"
        return (
            f"{self.requests:,} requests in {60 * self.hours:.1f} minutes, {self.refused:,} refused, up to "
            f"{self.most_replicas:,} replicas on {self.most_gpus:,} GPUs, {self.starts:,} starts, {self.events:,} "
            f"events; promises {kept}"
        )


@dataclass(frozen=True, slots=True)
class Traffic:
    """A day's swing of a fifth, in as little time as the requests take."""

    requests: Sequence[Request]
    duration_s: float

    @classmethod
    def for_replicas(cls, replicas: int, requests: int, seed: int = 0) -> Traffic:
        """
        Args:
            replicas: that serve it at its peak, about.
            requests: about.
        """
        per_request = sum(weight * _MEAN_AUDIO_S / SIZES[name].capacity for name, weight in _WEIGHTS.items())
        rate = replicas / per_request / (1 + _SWING)
        duration_s = requests / rate
        arrivals = Diurnal(rate, _SWING, duration_s).arrivals(duration_s, seed)
        accounts = {"free": requests, "pro": max(1, requests // 5), "enterprise": max(1, requests // 50)}
        return cls(Mix(_WEIGHTS, tenants=accounts).requests(arrivals, seed), duration_s)

    def simulate(self) -> Done:
        most = len(self.requests)
        policies = {name: settings_of(profile, most) for name, profile in SIZES.items()}
        shares = {name: profile.gpu for name, profile in SIZES.items()}
        first = sum(request.arrival_s < 60 for request in self.requests) / 60
        initial = {
            name: 1 + round(1.2 * first * weight * _MEAN_AUDIO_S / SIZES[name].capacity)
            for name, weight in _WEIGHTS.items()
        }
        cluster = Cluster(SIZES, TIERS, DemandPolicy(policies, Fleet(most, shares, tuple(SIZES))), initial)
        outcome = cluster.run(self.requests, self.duration_s)
        return Done(
            len(self.requests),
            self.duration_s / 3600,
            max(sum(sample.replicas.values()) for sample in outcome.samples),
            outcome.most_gpus,
            outcome.starts,
            cluster.events,
            len(outcome.refused),
            summarise(outcome, TIERS).keeps(OBJECTIVES),
        )
