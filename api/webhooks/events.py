"""What webhooks tell of: every event type in one place."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final


class EventType(StrEnum):
    """The types an endpoint may ask for. There is one for every state that a generation ends in."""

    GENERATION_SUCCEEDED = "generation.succeeded"
    GENERATION_FAILED = "generation.failed"
    GENERATION_CANCELLED = "generation.cancelled"
    GENERATION_EXPIRED = "generation.expired"


ALL_EVENTS: Final = "*"
# Sent by POST /api/v1/webhooks/{id}/test only: no endpoint asks for it and it is never sent again.
TEST_EVENT: Final = "webhook.test"


def asks_for(events: Iterable[str], event_type: str) -> bool:
    """Whether an endpoint with these events is told of this one."""
    return any(wanted in (ALL_EVENTS, event_type) for wanted in events)
