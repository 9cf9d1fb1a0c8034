"""What an attempt's error means for its generation: again, later, or never."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.errors import ApiError, ErrorCode, from_tutti
from models.errors import (
    EngineOverloadedError,
    GenerationFailedError,
    InvalidRequestError,
    ModelNotFoundError,
    TuttiError,
)

MAX_RETRIES = 3
_BACKOFF_S = (0.5, 2.0, 8.0)
_MAX_OVERLOAD_WAIT_S = 5.0

LOST = {
    "code": ErrorCode.REPLICA_LOST.value,
    "message": "The worker that made this was lost, again and again. Send the request again.",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    Attributes:
        error: {"code": …, "message": …}, for the client.
        retry: try again after ``wait_s`` seconds; otherwise it has failed.
        counts: the attempt counts as one of those that a generation has.
    """

    error: Mapping[str, Any]
    retry: bool
    wait_s: float = 0.0
    counts: bool = True


def judge(error: BaseException, attempt: int, previous: Mapping[str, Any] | None) -> Verdict:
    """Whether to try again after this error.

    Infrastructure (replica, engine, storage, and whatever nobody has thought of) is tried again three times. A failure
    inside the engine is tried again once, since it may have been another request's fault. A wrong request never is.

    Args:
        attempt: 1 for the first one.
        previous: error of the attempt before.
    """
    described = describe(error)
    if isinstance(error, InvalidRequestError | ModelNotFoundError):
        return Verdict(described, retry=False)
    if isinstance(error, EngineOverloadedError):
        wait_s = min(max(error.retry_after_s, _BACKOFF_S[0]), _MAX_OVERLOAD_WAIT_S)
        return Verdict(described, retry=True, wait_s=wait_s, counts=False)
    if isinstance(error, GenerationFailedError) and previous is not None and previous["code"] == described["code"]:
        return Verdict(described, retry=False)
    return Verdict(described, retry=may_retry(attempt), wait_s=backoff_s(attempt))


def may_retry(attempt: int) -> bool:
    return attempt <= MAX_RETRIES


def backoff_s(attempt: int) -> float:
    return _BACKOFF_S[min(attempt, len(_BACKOFF_S)) - 1]


def describe(error: BaseException) -> dict[str, Any]:
    """The error as the generation's result says it; of what is no error of ours, only that it is a bug."""
    seen = from_tutti(error) if isinstance(error, TuttiError) else ApiError(ErrorCode.INTERNAL_ERROR)
    return {"code": seen.code.value, "message": seen.message}
