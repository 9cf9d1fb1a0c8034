"""What is said over a WebSocket, and the ticket that opens one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from api.schemas.generations import GENERATION_ID


class Ticket(BaseModel):
    ticket: str = Field(description="Good for one connection")
    expires_in: int = Field(description="Seconds in which it must be used")
    url: str = Field(description="Where to connect, with the ticket in it; relative to this API's address")


class Subscribe(BaseModel):
    """Tell me of this generation."""

    model_config = ConfigDict(strict=True, extra="forbid")

    action: Literal["subscribe"]
    generation_id: str = Field(pattern=GENERATION_ID)
    audio: bool = Field(default=False, description="Also the audio, as `audio` events")
    last_event_id: str | None = Field(default=None, max_length=700, description="Go on after this event")


class Unsubscribe(BaseModel):
    """Tell me no more of it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    action: Literal["unsubscribe"]
    generation_id: str = Field(pattern=GENERATION_ID)


class Ping(BaseModel):
    """Answered by a ``pong`` event."""

    model_config = ConfigDict(strict=True, extra="forbid")

    action: Literal["ping"]


Action = Annotated[Subscribe | Unsubscribe | Ping, Field(discriminator="action")]
actions: TypeAdapter[Subscribe | Unsubscribe | Ping] = TypeAdapter(Action)
