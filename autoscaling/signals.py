"""What the policy is told: for each model size what there is to do, what arrives, and who is there to do it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from autoscaling.arrivals import Arrivals


@dataclass(frozen=True, slots=True)
class DueWork:
    """Work that waits for rows.

    Attributes:
        audio_s: audio-seconds to be made.
        due_in_s: seconds from now in which it has to be made; what somebody listens to is due now.
    """

    audio_s: float
    due_in_s: float


@dataclass(frozen=True, slots=True)
class ModelSignals:
    """One model size at one instant.

    Attributes:
        ready: replicas that serve.
        starting_in_s: for every replica that is being started, seconds until it will serve.
        running: streams on the ready replicas.
        running_audio_s: audio-seconds that they have left.
        queued: requests that no replica has admitted yet.
        waiting: the work in them.
        arrivals: what was asked for lately.
        age_s: seconds since the oldest of these facts was reported; too old and the policy holds.
    """

    ready: int
    starting_in_s: tuple[float, ...] = ()
    running: int = 0
    running_audio_s: float = 0.0
    queued: int = 0
    waiting: tuple[DueWork, ...] = ()
    arrivals: Arrivals = field(default_factory=Arrivals)
    age_s: float = 0.0

    @property
    def waiting_audio_s(self) -> float:
        return sum(work.audio_s for work in self.waiting)

    @property
    def planned(self) -> int:
        """Replicas that serve or will."""
        return self.ready + len(self.starting_in_s)

    @property
    def is_usable(self) -> bool:
        """False: a number in it is not one, or makes no sense; the policy holds then."""
        amounts = [self.ready, self.running, self.running_audio_s, self.age_s]
        amounts += [work.audio_s for work in self.waiting]
        amounts += [self.arrivals.short_s, self.arrivals.medium_s, self.arrivals.long_s, self.arrivals.dispersion]
        times = [*self.starting_in_s, *(work.due_in_s for work in self.waiting)]
        return all(0 <= amount < math.inf for amount in amounts) and all(math.isfinite(time) for time in times)
