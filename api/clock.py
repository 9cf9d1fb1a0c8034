"""The time of day, as something that tests can hold still."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns an aware instant in UTC."""


def utc_now() -> datetime:
    return datetime.now(UTC)
