"""Getting in and out, as it is said over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, SecretStr

from api.auth.directory import MAX_EMAIL_CHARACTERS, normal_email
from api.auth.service import Grant
from api.schemas.rules import filled, one_line, strict

MIN_PASSWORD_CHARACTERS = 12
MAX_PASSWORD_CHARACTERS = 256


def _name(text: str) -> str:
    return one_line(text).strip()


def _readable(password: SecretStr) -> SecretStr:
    one_line(password.get_secret_value())
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


class Register(BaseModel):
    """A new account."""

    model_config = strict({"email": "ada@example.com", "password": "four calm violet trombones", "name": "Ada"})

    email: Email
    password: NewPassword
    name: Annotated[str, Field(max_length=200, description="As you want to be called"), AfterValidator(_name)] = ""


class Login(BaseModel):
    """Email and password, once."""

    model_config = strict({"email": "ada@example.com", "password": "four calm violet trombones"})

    email: Email
    password: Password
    cookie: bool = Field(
        default=False,
        description="For browsers: the session goes into a cookie that scripts cannot read, and the answer holds the "
        "token that methods which change something must carry in X-CSRF-Token",
    )


class Refresh(BaseModel):
    """A refresh token, which is used up by this."""

    model_config = strict({"refresh_token": "rt_tt_0123456789abcdefghijklmnop"})

    refresh_token: Token


class Logout(BaseModel):
    """What to end."""

    model_config = strict({"refresh_token": "rt_tt_0123456789abcdefghijklmnop"})

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
        return filled(cls, grant, token_type="Bearer", expires_in=grant.expires_in_s)  # noqa: S106 the word is OAuth's


class CookieGrant(BaseModel):
    """A browser's session; the session itself is in the cookie."""

    account_id: str
    csrf_token: str = Field(description="Send it as X-CSRF-Token with every method but GET, HEAD and OPTIONS")
    expires_at: datetime
