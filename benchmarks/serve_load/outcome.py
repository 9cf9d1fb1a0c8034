"""What became of one request, as its client saw it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.serve_load.plan import Planned

Result = Literal["completed", "refused", "rate_limited", "invalid", "failed", "timeout", "cancelled"]
RESULTS: tuple[Result, ...] = ("completed", "refused", "rate_limited", "invalid", "failed", "timeout", "cancelled")


@dataclass(slots=True)
class Outcome:
    """All times are seconds, and count from the moment at which the request was meant to be sent.

    Attributes:
        planned: what was meant to happen.
        result: completed; refused: no room (503 at the door); rate_limited: the account's own limits (429); invalid:
            the request's fault (4xx); failed; timeout: the client gave up; cancelled: the client went away on purpose.
        code: of the error envelope, or the name of what broke; "" without an error.
        lag_s: how late the generator itself was.
        took_s: until the last byte of the audio, or until the job was known to be done.
        first_audio_s, stall_s, min_slack_s: of the virtual player; None: it did not come to that, or nobody listened.
        audio_s: seconds of audio that came; of jobs: that were made.
        is_valid: the right number of samples, not silent, under 1 % clipped; None: nobody listened to the end.
        retries: calls sent after a refusal.
        broken: a promise that the server did not keep, in words.
    """

    planned: Planned
    result: Result = "failed"
    code: str = ""
    lag_s: float = 0.0
    took_s: float = 0.0
    first_audio_s: float | None = None
    stall_s: float | None = None
    min_slack_s: float | None = None
    audio_s: float = 0.0
    is_valid: bool | None = None
    retries: int = 0
    broken: str | None = None


def result_of(status: int, code: str) -> Result:
    """What an answer that is no success makes of a request."""
    if status == 429:
        return "rate_limited"
    if status == 503 and code == "system_overloaded":
        return "refused"
    return "invalid" if 400 <= status < 500 else "failed"
