"""What a request brings to prove who it is: read from its headers, never from its URL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from starlette.requests import HTTPConnection

from api.auth import key_format
from api.auth.challenge import refused
from api.auth.policy import SESSION_COOKIE
from api.errors import ApiError, ErrorCode

CredentialKind = Literal["api_key", "legacy_key", "token", "cookie"]

PLAIN_COOKIE: Final = "tutti_session"
_MAX_CHARACTERS = 4096
_URL_NAMES = frozenset({"api_key", "apikey", "api-key", "x-api-key", "access_token", "authorization", "bearer"})
_JWT_START = "eyJ"  # base64url of '{"'


@dataclass(frozen=True, slots=True)
class Credential:
    kind: CredentialKind
    value: str

    def __repr__(self) -> str:
        return f"Credential({self.kind})"  # the value is in no log and no traceback


def read_credential(connection: HTTPConnection, cookie: str) -> Credential | None:
    """The one credential of a request; a header makes the cookie count for nothing.

    Args:
        cookie: the name of the session's cookie, see ``cookie_name``.

    Raises:
        ApiError: a credential in the URL, several that differ, or an Authorization header that is no Bearer.
    """
    _refuse_in_url(connection)
    sent = set(_from_headers(connection))
    if len(sent) > 1:
        raise refused(ErrorCode.INVALID_CREDENTIALS, "the request has several credentials that differ: send one")
    if sent:
        return _classified(sent.pop())
    value = connection.cookies.get(cookie)
    return Credential("cookie", value) if value else None


def cookie_name(connection: HTTPConnection, *, development: bool) -> str:
    """``__Host-…`` binds the cookie to this host and to TLS; browsers take it over plain http from nobody, so
    development on http has a plain one."""
    plain = development and connection.url.scheme in ("http", "ws")
    return PLAIN_COOKIE if plain else SESSION_COOKIE


def _refuse_in_url(connection: HTTPConnection) -> None:
    for name, value in connection.query_params.multi_items():
        if name.lower() in _URL_NAMES or key_format.is_prefixed(value):
            raise ApiError(
                ErrorCode.CREDENTIAL_IN_URL,
                "credentials are taken from headers only, since URLs end up in logs: send "
                "'Authorization: Bearer …' or 'X-API-Key: …', and replace the key that stood in this URL",
                param=name if name.lower() in _URL_NAMES else None,
            )


def _from_headers(connection: HTTPConnection) -> list[str]:
    keys = connection.headers.getlist("x-api-key")
    return [_sound(value) for value in [*map(_bearer, connection.headers.getlist("authorization")), *keys]]


def _bearer(header: str) -> str:
    scheme, _, value = header.strip().partition(" ")
    if scheme.lower() != "bearer":
        raise refused(ErrorCode.INVALID_CREDENTIALS, "the Authorization header must read 'Bearer' and a token or key")
    return value


def _sound(value: str) -> str:
    value = value.strip()
    if not value or len(value) > _MAX_CHARACTERS or not value.isascii() or not value.isprintable():
        raise refused(
            ErrorCode.INVALID_CREDENTIALS,
            "the credential is empty, too long or holds characters that none has: copy it again, whole",
        )
    return value


def _classified(value: str) -> Credential:
    if key_format.is_prefixed(value):
        return Credential("api_key", value)
    if value.startswith(_JWT_START) and value.count(".") == 2:
        return Credential("token", value)
    return Credential("legacy_key", value)
