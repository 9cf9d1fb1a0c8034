"""Good or bad: what each service level says of one request at its end. Plain functions of plain facts.

What is not eligible has no entry: a cancelled request says nothing of success, a stream that never played nothing of
continuity. Who gives up waiting has seen the promise broken only if it was broken by then: a request that ended without
its audio, or its result, counts against the time it was promised once that time had passed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

Sli = Literal["ttfa", "continuity", "success", "admission", "deadline", "validity"]
Outcome = Literal["completed", "failed", "timeout", "cancelled"]
Verdicts = Mapping[Sli, bool]


class Objectives(Protocol):
    """What is promised (``dashboards.objectives``)."""

    def threshold(self, sli: str, tier: str) -> float | None: ...
    def objective(self, sli: str, tier: str) -> float: ...


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """One stream at its end. Seconds.

    Attributes:
        elapsed_s: from the request to the end.
        first_audio_s: from the request to the first audio; None: it never came.
        stall_s: None: it never played.
        valid: whether what went out is audio; None: not all of it went out.
    """

    outcome: Outcome
    elapsed_s: float
    first_audio_s: float | None
    stall_s: float | None
    valid: bool | None


@dataclass(frozen=True, slots=True)
class JobFacts:
    """One asynchronous generation at its end.

    Attributes:
        slack_s: seconds left until its deadline when it ended; below 0: it had passed.
        valid: as above.
    """

    outcome: Outcome
    slack_s: float
    valid: bool | None


def judge_stream(facts: StreamFacts, first_audio_within_s: float, stall_within_s: float) -> Verdicts:
    """
    Args:
        first_audio_within_s, stall_within_s: what the tier is promised.
    """
    verdicts = _success(facts.outcome)
    if facts.first_audio_s is not None:
        verdicts["ttfa"] = facts.first_audio_s <= first_audio_within_s
    elif facts.elapsed_s > first_audio_within_s:
        verdicts["ttfa"] = False
    if facts.stall_s is not None:
        verdicts["continuity"] = facts.stall_s <= stall_within_s
    if facts.valid is not None:
        verdicts["validity"] = facts.valid
    return verdicts


def judge_job(facts: JobFacts) -> Verdicts:
    verdicts = _success(facts.outcome)
    if facts.outcome == "completed" or facts.slack_s < 0:
        verdicts["deadline"] = facts.outcome == "completed" and facts.slack_s >= 0
    if facts.valid is not None:
        verdicts["validity"] = facts.valid
    return verdicts


def is_goodput(outcome: Outcome, verdicts: Verdicts) -> bool:
    """Completed, and everything that was promised was kept."""
    return outcome == "completed" and all(verdicts.values())


def _success(outcome: Outcome) -> dict[Sli, bool]:
    return {} if outcome == "cancelled" else {"success": outcome == "completed"}
