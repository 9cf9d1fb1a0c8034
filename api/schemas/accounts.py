"""What is said of accounts: logins, keys, profile, usage, tiers."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, SecretStr

from api.auth.api_keys import ApiKey as StoredKey
from api.auth.api_keys import Made
from api.auth.directory import MAX_EMAIL_CHARACTERS, normal_email
from api.auth.identity import Account
from api.auth.key_format import KeyMode
from api.auth.principal import Principal, PrincipalKind, Role, Scope
from api.auth.service import Grant
from api.limits.quota import Usage as UsedWindow
from api.limits.quota import WindowName
from api.limits.tiers import Tier as TierLimits

MIN_PASSWORD_CHARACTERS = 12
MAX_PASSWORD_CHARACTERS = 256
MAX_OVERLAP_S = 7 * 86_400
DEFAULT_OVERLAP_S = 86_400.0
_Number = TypeVar("_Number", int, float)


def _strict(example: dict[str, Any]) -> ConfigDict:
    """Nothing is coerced, nothing unknown is ignored; with an example of the whole."""
    return ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": [example]})


def _one_line(text: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise ValueError("must be one line of text without control characters")
    return text.strip()


def _not_blank(text: str) -> str:
    if not text:
        raise ValueError("must not be empty: give it a name that you will know it by")
    return text


def _readable(password: SecretStr) -> SecretStr:
    _one_line(password.get_secret_value())
    return password


def _plain(token: SecretStr) -> SecretStr:
    if not token.get_secret_value().isascii():
        raise ValueError("holds characters that no token has: copy it again, whole")
    return token


Email = Annotated[
    str,
    Field(
        max_length=MAX_EMAIL_CHARACTERS,
        description="Upper and lower case are the same",
        examples=["ada@example.com"],
    ),
    AfterValidator(normal_email),
]
# The rules of NIST SP 800-63B: length, and no others.
NewPassword = Annotated[
    SecretStr,
    Field(
        min_length=MIN_PASSWORD_CHARACTERS,
        max_length=MAX_PASSWORD_CHARACTERS,
        description="Any characters but control characters; a few words are better than a few symbols",
        examples=["four calm violet trombones"],
    ),
    AfterValidator(_readable),
]
Password = Annotated[SecretStr, Field(min_length=1, max_length=MAX_PASSWORD_CHARACTERS), AfterValidator(_readable)]
Token = Annotated[SecretStr, Field(min_length=1, max_length=200), AfterValidator(_plain)]
KeyName = Annotated[
    str, Field(max_length=100, examples=["studio backend"]), AfterValidator(_one_line), AfterValidator(_not_blank)
]


# ------------------------------------------------------------------------------------------- in and out
class Register(BaseModel):
    """A new account."""

    model_config = _strict({"email": "ada@example.com", "password": "four calm violet trombones", "name": "Ada"})

    email: Email
    password: NewPassword
    name: Annotated[str, Field(max_length=200, description="As you want to be called"), AfterValidator(_one_line)] = ""


class Login(BaseModel):
    """Email and password, once."""

    model_config = _strict({"email": "ada@example.com", "password": "four calm violet trombones"})

    email: Email
    password: Password
    cookie: bool = Field(
        default=False,
        description="For browsers: the session goes into a cookie that scripts cannot read, and the answer holds the "
        "token that methods which change something must carry in X-CSRF-Token",
    )


class Refresh(BaseModel):
    """A refresh token, which is used up by this."""

    model_config = _strict({"refresh_token": "rt_tt_0123456789abcdefghijklmnop"})

    refresh_token: Token


class Logout(BaseModel):
    """What to end."""

    model_config = _strict({"refresh_token": "rt_tt_0123456789abcdefghijklmnop"})

    refresh_token: Token | None = Field(
        default=None, description="Left out: the session of the access token or cookie that comes with the request"
    )


class TokenGrant(BaseModel):
    """Tokens for a program."""

    account_id: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 the word is OAuth's
    access_token: str = Field(description="Send it as `Authorization: Bearer …`")
    expires_in: int = Field(description="Seconds the access token is valid")
    refresh_token: str = Field(description="Good for one use, at POST /api/v1/auth/refresh, which gives its successor")
    refresh_expires_at: datetime

    @classmethod
    def of(cls, grant: Grant) -> Self:
        return cls(
            account_id=grant.account_id,
            access_token=grant.access_token,
            expires_in=grant.expires_in_s,
            refresh_token=grant.refresh_token,
            refresh_expires_at=grant.refresh_expires_at,
        )


class CookieGrant(BaseModel):
    """A browser's session; the session itself is in the cookie."""

    account_id: str
    csrf_token: str = Field(description="Send it as X-CSRF-Token with every method but GET, HEAD and OPTIONS")
    expires_at: datetime


# --------------------------------------------------------------------------------------------- API keys
class CreateApiKey(BaseModel):
    """A new API key."""

    model_config = _strict({"name": "studio backend", "mode": "live", "scopes": ["generations:write", "audio:read"]})

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

    model_config = _strict({"overlap_s": 3600.0})

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
        return cls.model_validate(_fields(key, now))


class ApiKeyWithSecret(ApiKey):
    """An API key with the key itself: the only answer that ever holds it."""

    key: str = Field(description="Keep it now: it is not shown again", examples=["sk_live_tt_…"])

    @classmethod
    def made(cls, made: Made, now: datetime) -> Self:
        return cls.model_validate({**_fields(made.key, now), "key": made.secret})


class ApiKeyList(BaseModel):
    data: list[ApiKey]


def _fields(key: StoredKey, now: datetime) -> dict[str, object]:
    names = ("id", "name", "hint", "mode", "created_at", "expires_at", "revoked_at", "last_used_at", "successor_id")
    return {**{name: getattr(key, name) for name in names}, "scopes": sorted(key.scopes), "status": key.status(now)}


# ------------------------------------------------------------------------------------ profile and usage
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
        return cls(
            id=account.id,
            email=account.email,
            name=account.name,
            role=account.role,
            tier=account.tier,
            created_at=account.created_at,
            credential=principal.kind,
            scopes=sorted(principal.scopes),
            test_mode=principal.test_mode,
        )


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
        return cls(
            window=used.window,
            starts_at=used.starts_at,
            resets_at=used.resets_at,
            generations=used.generations,
            generations_limit=used.generations_limit,
            generations_remaining=_left(used.generations_limit, used.generations),
            audio_s=used.audio_s,
            audio_s_limit=used.audio_s_limit,
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
    requests_per_minute: int

    @classmethod
    def of(cls, tier: TierLimits) -> Self:
        return cls(**{name: getattr(tier, name) for name in cls.model_fields})


class TierList(BaseModel):
    data: list[Tier]


class Usage(BaseModel):
    """The current hour, day and month, in UTC."""

    tier: Tier
    windows: list[UsageWindow]


def utc(moment: datetime | None) -> datetime | None:
    """The same instant, said in UTC."""
    return moment.astimezone(UTC) if moment is not None else None
