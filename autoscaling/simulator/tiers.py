"""What a tier is promised, for the simulation."""

from __future__ import annotations

from dataclasses import dataclass

from autoscaling.fairness import TierRule
from autoscaling.simulator.workload import Request


@dataclass(frozen=True, slots=True)
class TierService:
    """What a tier is promised.

    Attributes:
        rule: for the queue.
        first_audio_s: within which a listener should hear something.
        deadline_c0_s, deadline_c1: a job is due ``c0 + c1 · audio_s`` seconds after it came.
        max_stream_wait_s, max_wait_s: refused at the door if it would wait longer, listened to or not.
    """

    rule: TierRule
    first_audio_s: float
    deadline_c0_s: float
    deadline_c1: float
    max_stream_wait_s: float
    max_wait_s: float

    def due_s(self, request: Request) -> float:
        """Seconds after its arrival at which it must be done, or heard."""
        if request.mode == "stream":
            return self.first_audio_s
        return self.deadline_c0_s + self.deadline_c1 * request.audio_s

    def limit_s(self, request: Request) -> float:
        """Seconds that it may have to wait, or else it is refused."""
        return self.max_stream_wait_s if request.mode == "stream" else self.max_wait_s
