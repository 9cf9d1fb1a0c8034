"""What a call for music that was not accepted counts as: shed, asked too often, wrong, or failed."""

from __future__ import annotations

from typing import Final, Literal

from api.errors import ErrorCode

RefusalOutcome = Literal["rejected_capacity", "rejected_rate_limit", "rejected_invalid", "failed", "cancelled"]
Reason = Literal["capacity", "rate_limit", "quota", "concurrency", "invalid", "error", "left"]

_OWN_LIMITS: Final[dict[str, Reason]] = {
    ErrorCode.RATE_LIMITED: "rate_limit",
    ErrorCode.QUOTA_EXCEEDED: "quota",
    ErrorCode.CONCURRENCY_LIMIT_EXCEEDED: "concurrency",
}


def classify(status: int | None, code: str | None) -> tuple[RefusalOutcome, Reason]:
    """
    Args:
        status: of the answer; None: the client left before there was one.
        code: of the error envelope.
    """
    if status is None:
        return "cancelled", "left"
    if code == ErrorCode.SYSTEM_OVERLOADED:
        return "rejected_capacity", "capacity"
    if code in _OWN_LIMITS:
        return "rejected_rate_limit", _OWN_LIMITS[code]
    return ("failed", "error") if status >= 500 else ("rejected_invalid", "invalid")
