"""When a delivery is tried again: ten attempts over about 75 hours, later if the receiver asks for it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

_MINUTE, _HOUR = 60, 3600
# Seconds between one attempt and the next. They add up to 75.6 h.
WAITS_S: Final = (
    5, 5 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 14 * _HOUR, 20 * _HOUR, 24 * _HOUR,
)  # fmt: skip
MAX_ATTEMPTS: Final = len(WAITS_S) + 1
# Receivers that failed together shall not all be called together again.
JITTER: Final = 0.1
MAX_RETRY_AFTER_S: Final = 24.0 * _HOUR
# An endpoint that did nothing but fail for this long is switched off.
FAILING_LIMIT: Final = timedelta(days=5)


def next_attempt(failures: int, now: datetime, retry_after_s: float | None, rng: random.Random) -> datetime | None:
    """When to try again, or None if that was the last attempt.

    Args:
        failures: attempts that failed, this one included.
        retry_after_s: what a 429 or 503 asked for; the wait is never shorter than that, nor longer than a day for it.
    """
    if failures >= MAX_ATTEMPTS:
        return None
    wait_s = WAITS_S[failures - 1] * rng.uniform(1 - JITTER, 1 + JITTER)
    return now + timedelta(seconds=max(wait_s, min(retry_after_s or 0.0, MAX_RETRY_AFTER_S)))


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds from now, of either form RFC 9110 allows; None if there is none or it makes no sense."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), MAX_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    aware = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (aware - now).total_seconds())
