"""API keys as clients ask for them and see them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field

from api.auth.api_keys import ApiKey as StoredKey
from api.auth.api_keys import Made
from api.auth.key_format import KeyMode
from api.auth.principal import Scope
from api.schemas.rules import filled, one_line, strict

MAX_OVERLAP_S = 7 * 86_400
DEFAULT_OVERLAP_S = 86_400.0


def _name(text: str) -> str:
    name = one_line(text).strip()
    if not name:
        raise ValueError("must not be empty: give it a name that you will know it by")
    return name


KeyName = Annotated[str, Field(max_length=100, examples=["studio backend"]), AfterValidator(_name)]


class CreateApiKey(BaseModel):
    """A new API key."""

    model_config = strict({"name": "studio backend", "mode": "live", "scopes": ["generations:write", "audio:read"]})

    name: KeyName
    mode: KeyMode = Field(
        default="live", description="What a test key makes is marked as a test and not counted against the quota"
    )
    # Not strict: JSON has neither sets nor enums nor times.
    scopes: frozenset[Annotated[Scope, Field(strict=False)]] | None = Field(
        default=None,
        strict=False,
        min_length=1,
        max_length=len(Scope),
        description="What it may do; left out: all that the credential of this request may",
    )
    expires_at: Annotated[AwareDatetime, Field(strict=False)] | None = Field(
        default=None, description="With a time zone; left out: never", examples=["2030-01-01T00:00:00Z"]
    )


class RotateApiKey(BaseModel):
    """How to replace a key."""

    model_config = strict({"overlap_s": 3600.0})

    overlap_s: float = Field(
        default=DEFAULT_OVERLAP_S,
        ge=0,
        le=MAX_OVERLAP_S,
        allow_inf_nan=False,
        description="Seconds for which the old key goes on working",
    )


class ApiKey(BaseModel):
    """An API key, without the key."""

    id: str
    name: str
    hint: str = Field(description="How it begins and ends", examples=["sk_live_tt_…k3Qz"])
    mode: KeyMode
    scopes: list[Scope]
    status: Literal["active", "expired", "revoked"]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute")
    successor_id: str | None = Field(description="Of a key that was rotated")

    @classmethod
    def of(cls, key: StoredKey, now: datetime) -> Self:
        return filled(cls, key, **_derived(key, now))


class ApiKeyWithSecret(ApiKey):
    """An API key with the key itself: the only answer that ever holds it."""

    key: str = Field(description="Keep it now: it is not shown again", examples=["sk_live_tt_…"])

    @classmethod
    def made(cls, made: Made, now: datetime) -> Self:
        return filled(cls, made.key, key=made.secret, **_derived(made.key, now))


class ApiKeyList(BaseModel):
    data: list[ApiKey]


def utc(moment: datetime | None) -> datetime | None:
    """The same instant, said in UTC."""
    return moment.astimezone(UTC) if moment is not None else None


def _derived(key: StoredKey, now: datetime) -> dict[str, object]:
    return {"scopes": sorted(key.scopes), "status": key.status(now)}
