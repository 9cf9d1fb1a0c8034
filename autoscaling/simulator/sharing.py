"""Sizes that share GPUs beside one size per GPU, on the same mixed traffic.

Nobody has measured this on a GPU: every figure rests on ``SIZES`` and on two assumptions, both against sharing.
A replica with a share of a GPU is never faster than that share of the GPU, even when its neighbours are idle, and loses
a tenth of it to them (caches, switching). And it reads its weights in each of its steps, as a replica with a whole
GPU does, for fewer streams.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from autoscaling.demand import DemandPolicy, Fleet
from autoscaling.simulator.cluster import Cluster
from autoscaling.simulator.replica import Profile, settings_of
from autoscaling.simulator.report import Report, summarise
from autoscaling.simulator.study import OBJECTIVES, PROMISED, TIERS, cells
from autoscaling.simulator.workload import Diurnal, Mix, Request

GPUS = 1_000
"""That there are: enough, so that the two ways differ in what they need and not in what they are refused."""
PACE = 1.25
"""Times real time, at least, of every stream of a full replica."""


@dataclass(frozen=True, slots=True)
class Assumed:
    """A size on a GPU, assumed.

    Attributes:
        weight: of the requests.
        base_s, stream_s: seconds of a step on a whole GPU, and of each stream in it: bytes of weights, and of keys and
            values of half a 30 s clip with guidance, at half of an H200's 4.3 TB/s.
        share: of a GPU, of a replica that shares it; as in ``serve_config.yaml`` (tiny, which is there for CPUs: as
            small).
        streams: that memory lets a whole GPU have.
        cold_start_s: as in ``serve_config.yaml``.
    """

    weight: float
    base_s: float
    stream_s: float
    share: float
    streams: int
    cold_start_s: float

    def profile(self, share: float, loss: float) -> Profile:
        """A replica with a share of a GPU.

        Args:
            loss: fraction of its share that it loses to its neighbours, unless it has none.
        """
        part = share if share == 1 else share * (1 - loss)
        base_s, stream_s = self.base_s / part, self.stream_s / part
        in_time = int((0.02 / PACE - base_s) / stream_s)
        streams = max(1, min(in_time, int(self.streams * share)))
        return Profile(streams, base_s, stream_s, gpu=share, cold_start_s=self.cold_start_s)


SIZES: Mapping[str, Assumed] = {
    "tiny": Assumed(0.2, 0.0001, 0.00001, 0.25, 128, 30),
    "small": Assumed(0.4, 0.00033, 0.00007, 0.25, 128, 45),
    "medium": Assumed(0.3, 0.00149, 0.00021, 0.5, 64, 60),
    "large": Assumed(0.1, 0.00264, 0.00027, 1.0, 24, 90),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One way to serve one traffic.

    Attributes:
        rate: requests per second, on average.
        gpus: held on average.
        most_gpus: held at once.
    """

    rate: float
    way: str
    gpus: float
    most_gpus: int
    report: Report

    @property
    def meets(self) -> bool:
        return self.report.keeps(OBJECTIVES)


def compare(rate: float, hours: float, loss: float, seed: int = 0) -> tuple[Row, Row]:
    """One size per GPU, and shared, with the same requests: a day with a crowd of twice the rate now and then.

    Args:
        hours: of that day; shorter ones are harder to follow.
    """
    period_s = hours * 3600
    arrivals = Diurnal.with_crowds(rate, period_s, crowd=2.0).arrivals(period_s, seed)
    requests = Mix({name: size.weight for name, size in SIZES.items()}).requests(arrivals, seed)
    alone = {name: size.profile(1.0, loss) for name, size in SIZES.items()}
    shared = {name: size.profile(size.share, loss) for name, size in SIZES.items()}
    return (
        _serve(rate, "one size per GPU", alone, requests, period_s),
        _serve(rate, "shared", shared, requests, period_s),
    )


def _serve(rate: float, way: str, profiles: Mapping[str, Profile], requests: Sequence[Request], until_s: float) -> Row:
    policies = {name: settings_of(profile, 4 * GPUS) for name, profile in profiles.items()}
    shares = {name: profile.gpu for name, profile in profiles.items()}
    autoscaler = DemandPolicy(policies, Fleet(GPUS, shares, ("large", "medium", "small", "tiny")))
    outcome = Cluster(profiles, TIERS, autoscaler, dict.fromkeys(profiles, 1)).run(requests, until_s)
    held = outcome.held_gpu_s / outcome.samples[-1].at_s
    return Row(rate, way, held, outcome.most_gpus, summarise(outcome, TIERS))


def table(rows: Iterable[tuple[Row, Row]]) -> str:
    """Markdown, of pairs as ``compare`` returns them."""
    lines = [
        f"| requests/s | way | GPUs, mean | fewer | GPUs, most | starts | {PROMISED} |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for alone, shared in rows:
        for row in (alone, shared):
            fewer = "" if row is alone else f"{1 - row.gpus / alone.gpus:.0%}"
            lines.append(
                f"| {row.rate:g} | {row.way} | {row.gpus:.2f} | {fewer} | {row.most_gpus} | {row.report.starts} "
                f"| {cells(row.report)} |"
            )
    return "\n".join(lines)
