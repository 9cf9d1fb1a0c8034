"""How many GPUs for this traffic and these promises: simulated, with the scheduler and the policy that serve.

Two answers, and the cheaper one is the advice: a fixed number of replicas of each size, the smallest with which every
promise is kept, and the policy "demand" between a floor and a ceiling.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from autoscaling.demand import DemandPolicy
from autoscaling.simulator.cluster import Autoscaler, Cluster, Outcome
from autoscaling.simulator.course import Course, course_of
from autoscaling.simulator.replica import Profile, settings_of
from autoscaling.simulator.report import Report, summarise
from autoscaling.simulator.rivals import Fixed, clairvoyant_gpu_s
from autoscaling.simulator.tiers import TierService
from autoscaling.simulator.workload import Request

MAX_REPLICAS = 10_000


class PlanError(ValueError):
    """The question cannot be answered; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Option:
    """One way to serve the traffic.

    Attributes:
        name: fixed, or demand.
        replicas: model → at least and at most.
        gpus: most GPUs held at once; whole ones, however small a part of one its replicas take.
        cost: of the hours for which they were held, in the currency of the price.
        meets: every tier got what it was promised.
        course: how it went.
    """

    name: str
    replicas: Mapping[str, tuple[int, int]]
    gpus: int
    cost: float
    report: Report
    meets: bool
    course: Course


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer.

    Attributes:
        hours: of traffic that were simulated.
        best: the cheapest option that keeps every promise; the one that keeps most if none does.
        options: all of them, for the cold start as given.
        what_if: cold start (s) → the policy's answer with it.
    """

    hours: float
    requests: int
    best: str
    options: Sequence[Option]
    what_if: Mapping[float, Option]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        objectives: tier → fraction that must hear something in time, and of jobs that must be done in time.
        admission: tier → fraction that must not be refused for want of capacity.
        price: of one GPU for an hour.
        warm_floor: replicas of each size that the policy keeps.
    """

    requests: Sequence[Request]
    profiles: Mapping[str, Profile]
    tiers: Mapping[str, TierService]
    objectives: Mapping[str, float]
    admission: Mapping[str, float] = field(default_factory=dict)
    price: float = 0.0
    warm_floor: int = 1

    def __post_init__(self) -> None:
        if not self.requests:
            raise PlanError("there is no traffic to plan for: give a rate above 0 or a trace with requests")
        missing = sorted({request.model for request in self.requests} - set(self.profiles))
        if missing:
            raise PlanError(f"no profile says how fast {missing[0]} is: give --profile {missing[0]}=…")
        unknown = sorted({request.tier for request in self.requests} - set(self.tiers))
        if unknown:
            raise PlanError(f"the tier {unknown[0]} has no promises; there are: {', '.join(self.tiers)}")
        for name, profile in self.profiles.items():
            if (pace := profile.rate(profile.streams)) < 1:
                raise PlanError(
                    f"{name}: {profile.streams} streams at once are made at {pace:.2f} times real time, so every "
                    f"listener would stall: plan with at most {_most_streams(profile)}"
                )


def _most_streams(profile: Profile) -> int:
    """That are made as fast as they are heard."""
    if profile.stream_s == 0:  # a step costs the same for any number
        return profile.streams if profile.base_s <= profile.frame_s else 0
    return max(0, math.floor((profile.frame_s - profile.base_s) / profile.stream_s))


def plan(question: Question, cold_starts_s: Iterable[float] = ()) -> Plan:
    """Simulate the ways to serve it.

    Args:
        cold_starts_s: also answer for replicas that take so long to start (seconds).

    Raises:
        PlanError: no number of replicas up to 10,000 keeps the promises.
    """
    least_gpu_s = clairvoyant_gpu_s(question.requests, question.profiles)
    options = [_fixed(question, least_gpu_s), _demand(question, least_gpu_s)]
    keeping = [option for option in options if option.meets]
    best = min(keeping, key=lambda option: option.report.held_gpu_hours) if keeping else options[0]
    what_if = {seconds: _what_if(question, seconds) for seconds in cold_starts_s}
    return Plan(question.requests[-1].arrival_s / 3600, len(question.requests), best.name, options, what_if)


def _what_if(question: Question, seconds: float) -> Option:
    slower = _with_cold_start(question, seconds)
    return _demand(slower, clairvoyant_gpu_s(slower.requests, slower.profiles))


def _fixed(question: Question, least_gpu_s: float) -> Option:
    """Each size alone, as they share nothing but the price."""
    numbers = {}
    for model in question.profiles:
        mine = [request for request in question.requests if request.model == model]
        numbers[model] = _least(question, model, mine) if mine else 0
    outcome = _simulate(question, question.requests, Fixed(numbers), numbers)
    limits = {model: (number, number) for model, number in numbers.items()}
    return _option("fixed", question, outcome, limits, least_gpu_s)


def _least(question: Question, model: str, requests: Sequence[Request]) -> int:
    """The smallest number of replicas that keeps the promises: doubled until it does, then by bisection."""

    def keeps(number: int) -> bool:
        numbers = {model: number}
        return _keeps(question, summarise(_simulate(question, requests, Fixed(numbers), numbers), question.tiers))

    audio_s = sum(request.audio_s for request in requests)
    low = 0
    high = max(1, math.ceil(audio_s / max(1.0, requests[-1].arrival_s) / question.profiles[model].capacity))
    while not keeps(high):
        if high >= min(MAX_REPLICAS, len(requests)):  # each could have had one to itself
            raise PlanError(f"{model}: not even {high} replicas keep the promises: is one stream alone fast enough?")
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(middle) else (middle, high)
    return high


def _demand(question: Question, least_gpu_s: float) -> Option:
    policies = {
        model: settings_of(profile, MAX_REPLICAS, question.warm_floor) for model, profile in question.profiles.items()
    }
    floors = {model: policy.least for model, policy in policies.items()}
    outcome = _simulate(question, question.requests, DemandPolicy(policies), floors)
    most = {model: max(sample.replicas[model] for sample in outcome.samples) for model in policies}
    limits = {model: (floors[model], most[model]) for model in policies}
    return _option("demand", question, outcome, limits, least_gpu_s)


def _simulate(
    question: Question, requests: Sequence[Request], autoscaler: Autoscaler, initial: Mapping[str, int]
) -> Outcome:
    profiles = {model: question.profiles[model] for model in initial}
    return Cluster(profiles, question.tiers, autoscaler, initial).run(requests, requests[-1].arrival_s)


def _option(
    name: str, question: Question, outcome: Outcome, replicas: Mapping[str, tuple[int, int]], least_gpu_s: float
) -> Option:
    report = summarise(outcome, question.tiers, least_gpu_s)
    cost, meets = report.held_gpu_hours * question.price, _keeps(question, report)
    course = course_of(outcome, question.tiers, question.requests[-1].arrival_s)
    return Option(name, replicas, outcome.most_gpus, cost, report, meets, course)


def _keeps(question: Question, report: Report) -> bool:
    for name, tier in report.tiers.items():
        wanted = question.objectives[name]
        if any(got is not None and got < wanted for got in (tier.first_audio, tier.deadline)):
            return False
        if tier.admitted < question.admission.get(name, 0.0):
            return False
    return True


def _with_cold_start(question: Question, seconds: float) -> Question:
    profiles = {model: replace(profile, cold_start_s=seconds) for model, profile in question.profiles.items()}
    return replace(question, profiles=profiles)


def profile_from_results(paths: Sequence[Path]) -> Profile:
    """How fast a replica is, from results of ``tutti bench engine --json``.

    It serves as many streams as were measured, or as keep up with real time if those are fewer.

    Args:
        paths: that together hold a run with one stream and one with several.

    Raises:
        PlanError: a file holds no such result, or one of the two runs is missing.
    """
    measured: dict[int, float] = {}
    for path in paths:
        try:
            runs = json.loads(path.read_text())["runs"]
            measured |= {int(run["streams"]): float(run["realtime_factor"]) for run in runs}
        except (KeyError, TypeError, ValueError) as error:
            raise PlanError(f"{path} is no result of `tutti bench engine --json`: {error!r}") from error
    most = max(measured, default=0)
    if 1 not in measured or most < 2:
        raise PlanError(f"{', '.join(map(str, paths))}: a run with --batch 1 and one with more streams are needed")
    try:
        profile = Profile.from_measured(most, measured[1], measured[most], most)
    except ValueError as error:
        raise PlanError(str(error)) from error
    return replace(profile, streams=max(1, min(most, _most_streams(profile))))
