"""What is counted of a generation at its end, taken from its row by the transaction that ended it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from api.generations.view import State
from api.telemetry.decisions import Outcome

_OUTCOMES: Final[Mapping[State, Outcome]] = {
    State.SUCCEEDED: "completed",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.EXPIRED: "timeout",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """
    Attributes:
        audio_s: seconds of all tracks, as they were asked for.
        elapsed_s: from the acceptance to the end.
        slack_s: seconds left until the deadline; below 0: it had passed.
        queue_wait_s: until the first lease; None: it never was leased.
        real_time_factor: seconds of music per second of work; None: it has not succeeded.
    """

    outcome: Outcome
    request_id: str
    traceparent: str | None
    model_id: str
    tier: str
    mode: str
    audio_s: float
    elapsed_s: float
    slack_s: float
    queue_wait_s: float | None
    real_time_factor: float | None

    @classmethod
    def of(cls, row: Mapping[str, Any], state: State, now: datetime, real_time_factor: float | None) -> Ended:
        """
        Args:
            row: of ``generations``, as it was before it ended.
            state: a final one.
        """
        created_at: datetime = row["created_at"]
        deadline_at: datetime = row["deadline_at"]
        return cls(
            outcome=_OUTCOMES[state],
            request_id=row["request_id"],
            traceparent=row["traceparent"],
            model_id=row["model_id"],
            tier=row["tier"],
            mode=row["mode"],
            audio_s=row["duration_s"] * row["num_tracks"],
            elapsed_s=max(0.0, (now - created_at).total_seconds()),
            slack_s=(deadline_at - now).total_seconds(),
            queue_wait_s=row["queue_wait_s"],
            real_time_factor=real_time_factor,
        )
