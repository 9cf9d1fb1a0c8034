"""What a client may say about webhooks, and what it is shown."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from api.schemas.generations import Generation
from api.webhooks.events import ALL_EVENTS, EventType
from api.webhooks.targets import MAX_URL_CHARACTERS

MAX_EVENTS = 20

DeliveryState = Literal["pending", "delivered", "failed"]


def _once_each(events: list[str]) -> list[str]:
    return list(dict.fromkeys(events))


def _known(event: str) -> str:
    if event != ALL_EVENTS and event not in list(EventType):
        raise PydanticCustomError(
            "unknown_event", "There is no such event: choose among *, {events}", {"events": ", ".join(EventType)}
        )
    return event


def _one_line(text: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise PydanticCustomError("control_character", "Holds a control character: write one line of plain text")
    return text


Url = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_URL_CHARACTERS,
        description="A public https address on port 443 or 8443, without user name, password or fragment",
        examples=["https://hooks.example.com/tutti"],
    ),
]
EventName = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": [ALL_EVENTS, *EventType]})]
Events = Annotated[
    list[EventName],
    Field(min_length=1, max_length=MAX_EVENTS, description='What to be told of; ["*"] for everything, now and later'),
    AfterValidator(_once_each),
]
Description = Annotated[
    str, AfterValidator(_one_line), Field(max_length=500, description="In your own words, one line")
]


class CreateWebhook(BaseModel):
    """A place that shall be told of events."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"url": "https://hooks.example.com/tutti"},
                {
                    "url": "https://hooks.example.com:8443/tutti?team=7",
                    "events": ["generation.succeeded", "generation.failed"],
                    "description": "Campaign tool",
                },
            ]
        },
    )

    url: Url
    events: Events = [ALL_EVENTS]
    description: Description = ""


class UpdateWebhook(BaseModel):
    """What to change; what is left out stays."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={"examples": [{"enabled": False}, {"events": ["*"], "description": "Everything"}]},
    )

    url: Url | None = None
    events: Events | None = None
    description: Description | None = None
    enabled: bool | None = Field(
        default=None,
        description="false ends all pending deliveries as failed; true begins anew, and what failed can be replayed",
    )


class Webhook(BaseModel):
    """An endpoint."""

    id: str
    url: str
    description: str
    events: list[str]
    enabled: bool
    disabled_reason: str | None = Field(description="Why it was switched off, if this server did that")
    failing_since: datetime | None = Field(
        description="The first failure after the last success; after 5 days of nothing but failures it is switched off"
    )
    previous_secret_until: datetime | None = Field(
        description="Until then deliveries also carry a signature by the secret before the present one"
    )
    created_at: datetime


class WebhookWithSecret(Webhook):
    """An endpoint and its secret, which is shown this once."""

    secret: str = Field(description="whsec_ and 32 bytes in base64; verify deliveries with it (Standard Webhooks)")


class WebhookList(BaseModel):
    data: list[Webhook]


class SigningSecret(BaseModel):
    """What signs deliveries to the webhook_url of single generations."""

    secret: str
    previous_secret_until: datetime | None
    created_at: datetime


class Attempt(BaseModel):
    """One time that a delivery was sent."""

    number: int
    at: datetime
    duration_ms: float
    status: int | None = Field(description="Of the answer; null: there was none")
    error: str | None = Field(description="Why it did not count as delivered")
    response_excerpt: str | None = Field(description="The first 1,000 characters of the answer's body")


class Delivery(BaseModel):
    """One event on its way to one address."""

    id: str
    event_id: str = Field(description="The webhook-id header, the same at every attempt and replay")
    event_type: str
    webhook_id: str | None = Field(description="The endpoint; null: a generation's own webhook_url")
    url: str
    state: DeliveryState
    attempts: int = Field(description="Made since the delivery was created or last replayed")
    next_attempt_at: datetime | None
    created_at: datetime
    finished_at: datetime | None


class DeliveryDetails(Delivery):
    """A delivery with its body and every attempt, the newest last."""

    body: dict[str, Any]
    log: list[Attempt]


class DeliveryList(BaseModel):
    data: list[Delivery]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null: there is none")


class AttemptList(BaseModel):
    data: list[Attempt]


class GenerationEvent(BaseModel):
    """What a delivery holds."""

    type: EventType
    timestamp: datetime = Field(description="When the generation ended")
    data: Generation = Field(description="The generation as GET showed it then: ids and links, no audio")
