"""A run of the platform as it is kept, and the simulator on it: the fit and the comparison can be made again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from autoscaling.simulator.replica import Profile
from benchmarks.serve_load.plan import Planned, Schedule
from benchmarks.simulator_check.compare import Before, Line, Seen, holds, lines, simulated
from benchmarks.simulator_check.fit import FitError, beside_start, latency_s, profile_of, shared_rate
from benchmarks.simulator_check.observed import Track
from benchmarks.simulator_check.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Replay:
    """What the two say of the same schedule.

    Attributes:
        profile: of a replica, as the engine's log of that run has it.
    """

    profile: Profile
    real: Seen
    told: Seen
    lines: list[Line]
    is_within: bool

    def as_dict(self) -> dict[str, Any]:
        told = {name: value for name, value in asdict(self.told).items() if name != "heard_s"}
        profile = {name: value for name, value in asdict(self.profile).items() if value < math.inf}
        lines_ = [asdict(line) for line in self.lines]
        return {"within": self.is_within, "profile": profile, "simulated": told, "lines": lines_}


def replay(kept: Mapping[str, Any], accounts: int) -> Replay:
    """
    Args:
        kept: ``scenario``, ``before``, ``platform``, ``requests`` (at, tier, seconds of audio, seconds until first
            audio or null, whether it was let in) and ``tracks`` (replica, from, to, seconds of audio); times are
            seconds after the first moment of the schedule.

    Raises:
        FitError: it says too little of the engine, or no second replica began a track.
    """
    # A run that does not say so was made with a door that did not hear of starts.
    scenario, rows = Scenario(**{"knows_starts": False, **kept["scenario"]}), kept["requests"]
    real = Seen({index: row[3] for index, row in enumerate(rows) if row[4]}, **kept["platform"])
    heard = [row[3] for row in rows if row[0] < scenario.calm_s and row[3] is not None]
    profile = _profile([Track(*each) for each in kept["tracks"]], real, heard)
    schedule = Schedule(
        tuple(
            Planned(index, at_s, tier, index, None, "stream", audio_s, "", 0)
            for index, (at_s, tier, audio_s, *_) in enumerate(rows)
        ),
        scenario.duration_s,
    )
    before = Before(kept["before"]["since_s"], [(at_s, audio_s) for at_s, audio_s in kept["before"]["requests"]])
    told = simulated(scenario, schedule, profile, accounts, before)
    found = lines(schedule, real, told)
    return Replay(profile, real, told, found, holds(found, real, told))


def _profile(tracks: list[Track], real: Seen, calm_heard_s: list[float]) -> Profile:
    """Rates from what one replica made before another was asked for; the start from then to its first track; what they
    take from each other from the tracks after it."""
    first: dict[str, float] = {}
    for track in tracks:
        first.setdefault(track.replica, track.began_at)
    later = [at for at in first.values() if real.ups and at > real.ups[0]]
    if not later or not calm_heard_s:
        raise FitError("no second replica was asked for and used after some calm: give a higher --high")
    asked, served = real.ups[0], min(later)
    before = [track for track in tracks if track.ended_at < asked]
    during = [track for track in tracks if track.began_at >= asked and track.ended_at <= served]
    after = [track for track in tracks if track.began_at > served]
    found = profile_of(before, served - asked, during)
    return replace(
        found,
        latency_s=latency_s(calm_heard_s, found),
        beside_start=beside_start(during, tracks, found),
        shared_rate=shared_rate(after),
    )
