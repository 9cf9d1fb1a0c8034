"""How a simulation went, over time, in few enough points to be drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autoscaling.simulator.cluster import Outcome
from autoscaling.simulator.tiers import TierService

_POINTS = 288
"""Of replicas and GPUs; five minutes each of a day."""
_WINDOWS = 48
"""Of attainment: enough requests have to fall into one for its share to mean something."""


@dataclass(frozen=True, slots=True)
class Course:
    """
    Attributes:
        hours: at which each stretch of replicas and GPUs begins.
        replicas: model → the most that existed in each stretch.
        gpus: the most that were held in each.
        window_hours: at which each window of the following begins.
        asked_audio_s_per_s: audio-seconds asked for per second in each.
        heard: tier → of those with a listener who came in each window and were let in, the fraction that heard
            something in time; None: nobody came.
    """

    hours: Sequence[float]
    replicas: Mapping[str, Sequence[int]]
    gpus: Sequence[int]
    window_hours: Sequence[float]
    asked_audio_s_per_s: Sequence[float]
    heard: Mapping[str, Sequence[float | None]]


def course_of(outcome: Outcome, tiers: Mapping[str, TierService], duration_s: float) -> Course:
    """
    Args:
        duration_s: of the traffic.
    """
    samples = outcome.samples
    each = -(-len(samples) // _POINTS)
    stretches = [samples[index : index + each] for index in range(0, len(samples), each)]
    models = list(samples[0].replicas)
    width_s = max(duration_s, 1.0) / _WINDOWS
    asked = [0.0] * _WINDOWS
    for request in [*(job.request for job in outcome.jobs), *outcome.refused]:
        asked[_window(request.arrival_s, width_s)] += request.audio_s
    return Course(
        [some[0].at_s / 3600 for some in stretches],
        {model: [max(sample.replicas[model] for sample in some) for some in stretches] for model in models},
        [max(sample.gpus for sample in some) for some in stretches],
        [index * width_s / 3600 for index in range(_WINDOWS)],
        [audio_s / width_s for audio_s in asked],
        _heard(outcome, tiers, width_s),
    )


def _window(at_s: float, width_s: float) -> int:
    return min(_WINDOWS - 1, int(at_s / width_s))


def _heard(outcome: Outcome, tiers: Mapping[str, TierService], width_s: float) -> dict[str, list[float | None]]:
    counts = {name: [[0, 0] for _ in range(_WINDOWS)] for name in tiers}
    for job in outcome.jobs:
        request = job.request
        if request.mode == "stream":
            count = counts[request.tier][_window(request.arrival_s, width_s)]
            count[0] += 1
            heard_s = job.heard_s - request.arrival_s if job.heard_s is not None else float("inf")
            count[1] += heard_s <= tiers[request.tier].first_audio_s
    return {
        name: [good / came if came else None for came, good in windows]
        for name, windows in counts.items()
        if any(came for came, _ in windows)
    }
