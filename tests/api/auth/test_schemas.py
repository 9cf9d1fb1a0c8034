"""What may be said of accounts: refused as early as possible, with the field's name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from api.auth.principal import Scope
from api.schemas.api_keys import CreateApiKey, RotateApiKey
from api.schemas.logins import Logout, Refresh, Register
from tests.api.auth.calls import EMAIL, PASSWORD

BAD_BODIES: list[tuple[dict[str, Any], str]] = [
    ({"email": "no-at", "password": PASSWORD}, "email"),
    ({"email": "a@b@c", "password": PASSWORD}, "email"),
    ({"email": "@example.com", "password": PASSWORD}, "email"),
    ({"email": "a b@example.com", "password": PASSWORD}, "email"),
    ({"email": "a\u0000@example.com", "password": PASSWORD}, "email"),
    ({"email": "a\ud800@example.com", "password": PASSWORD}, "email"),
    ({"email": "a" * 251 + "@b.c", "password": PASSWORD}, "email"),
    ({"email": EMAIL, "password": "short"}, "password"),
    ({"email": EMAIL, "password": "x" * 257}, "password"),
    ({"email": EMAIL, "password": "twelve\u0000characters"}, "password"),
    ({"email": EMAIL, "password": "twelve\ud800characters"}, "password"),
    ({"email": EMAIL, "password": 123456789012}, "password"),
    ({"email": EMAIL, "password": PASSWORD, "name": "two\nlines"}, "name"),
    ({"email": EMAIL, "password": PASSWORD, "role": "admin"}, "role"),
    ({"email": EMAIL}, "password"),
    ({"email": "a\u00a0b@example.com", "password": PASSWORD}, "email"),
    ({"email": "a@", "password": PASSWORD}, "email"),
    ({"email": 7, "password": PASSWORD}, "email"),
]
BAD_KEYS: list[tuple[dict[str, Any], str]] = [
    ({}, "name"),
    ({"name": ""}, "name"),
    ({"name": "  "}, "name"),
    ({"name": "x" * 101}, "name"),
    ({"name": "a\u0000"}, "name"),
    ({"name": "a", "mode": "prod"}, "mode"),
    ({"name": "a", "scopes": []}, "scopes"),
    ({"name": "a", "scopes": ["everything"]}, "scopes"),
    ({"name": "a", "scopes": "audio:read"}, "scopes"),
    ({"name": "a", "expires_at": "2030-01-01T00:00:00"}, "expires_at"),
    ({"name": "a", "expires_at": "soon"}, "expires_at"),
    ({"name": "a", "key": "mine"}, "key"),
]
BAD_TOKENS: list[Any] = ["", "x" * 201, "é", "\ud800", 7, None]
BAD_OVERLAPS: list[Any] = [-1, 7 * 86_400 + 1, float("nan"), float("inf"), "1", True]


def wrong(model: type[BaseModel], body: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(body)
    return str(refused.value.errors()[0]["loc"][0])


@pytest.mark.parametrize(("body", "param"), BAD_BODIES)
def test_what_cannot_be_an_account_is_refused(body: dict[str, Any], param: str) -> None:
    assert wrong(Register, body) == param


@pytest.mark.parametrize(("body", "param"), BAD_KEYS)
def test_what_cannot_be_a_key_is_refused(body: dict[str, Any], param: str) -> None:
    assert wrong(CreateApiKey, body) == param


@pytest.mark.parametrize("token", BAD_TOKENS)
def test_what_is_no_refresh_token_is_refused(token: Any) -> None:
    assert wrong(Refresh, {"refresh_token": token}) == "refresh_token"


@pytest.mark.parametrize("overlap_s", BAD_OVERLAPS)
def test_an_overlap_is_up_to_a_week(overlap_s: Any) -> None:
    assert wrong(RotateApiKey, {"overlap_s": overlap_s}) == "overlap_s"


def test_emails_have_one_form() -> None:
    registered = Register.model_validate({"email": " Zoe\u0308@EXAMPLE.com ", "password": PASSWORD, "name": " Zoë "})
    assert (registered.email, registered.name) == ("zoë@example.com", "Zoë")
    assert PASSWORD not in repr(registered)


def test_the_longest_email_fits_its_column() -> None:
    email = "a" * 242 + "@example.com"
    assert Register.model_validate({"email": email, "password": PASSWORD}).email == email


def test_a_key_takes_scopes_and_times_as_json_has_them() -> None:
    wanted = CreateApiKey.model_validate(
        {"name": "a", "scopes": ["audio:read", "audio:read"], "expires_at": "2030-01-01T01:00:00+01:00"}
    )
    assert wanted.scopes == frozenset({Scope.AUDIO_READ})
    assert wanted.expires_at == datetime(2030, 1, 1, tzinfo=UTC)


def test_a_logout_may_say_nothing() -> None:
    assert Logout.model_validate({}).refresh_token is None
