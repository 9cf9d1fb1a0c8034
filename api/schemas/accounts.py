"""What an account is, has used and may do."""

from __future__ import annotations

from datetime import datetime
from typing import Self, TypeVar

from pydantic import BaseModel, Field

from api.auth.identity import Account
from api.auth.principal import Principal, PrincipalKind, Role, Scope
from api.limits.quota import Usage as UsedWindow
from api.limits.quota_sql import WindowName
from api.limits.tiers import Tier as TierLimits
from api.schemas.rules import filled

_Number = TypeVar("_Number", int, float)


class Profile(BaseModel):
    """The account behind the request, and what the credential may do."""

    id: str
    email: str | None
    name: str
    role: Role
    tier: str
    created_at: datetime
    credential: PrincipalKind = Field(description="How the request proved itself")
    scopes: list[Scope]
    test_mode: bool

    @classmethod
    def of(cls, account: Account, principal: Principal) -> Self:
        asking = {"credential": principal.kind, "scopes": sorted(principal.scopes), "test_mode": principal.test_mode}
        return filled(cls, account, **asking)


class UsageWindow(BaseModel):
    """What was used of one window; limits of null are without limit."""

    window: WindowName
    starts_at: datetime
    resets_at: datetime
    generations: int
    generations_limit: int | None
    generations_remaining: int | None
    audio_s: float = Field(description="Seconds of audio, tracks × duration")
    audio_s_limit: float | None
    audio_s_remaining: float | None

    @classmethod
    def of(cls, used: UsedWindow) -> Self:
        return filled(
            cls,
            used,
            generations_remaining=_left(used.generations_limit, used.generations),
            audio_s_remaining=_left(used.audio_s_limit, used.audio_s),
        )


def _left(limit: _Number | None, used: _Number) -> _Number | None:
    return None if limit is None else round(max(limit - used, 0), 3)


class Tier(BaseModel):
    """What an account of this tier may do; null is without limit."""

    name: str
    generations_per_hour: int | None
    generations_per_day: int | None
    audio_s_per_day: float | None = Field(description="Seconds of audio, tracks × duration")
    max_duration_s: float = Field(description="Of one track")
    max_tracks: int = Field(description="Of one generation")
    running: int = Field(description="Generations at the same time")
    queued: int = Field(description="Generations that may wait besides")
    listeners: int | None = Field(description="Streams of events, audio and WebSockets open at once, on each server")
    requests_per_minute: int

    @classmethod
    def of(cls, tier: TierLimits) -> Self:
        return filled(cls, tier)


class TierList(BaseModel):
    data: list[Tier]


class Usage(BaseModel):
    """The current hour, day and month, in UTC."""

    tier: Tier
    windows: list[UsageWindow]
