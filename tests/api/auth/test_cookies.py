"""Browsers: a cookie that scripts cannot read, and what must come with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.api.auth.calls import EMAIL, LOOPBACK, PASSWORD, PROFILE, bearer, client, code, register
from tests.api.auth.conftest import Connect, ManualClock, Platform

LOGIN = "/api/v1/auth/login"
HOST_COOKIE = "__Host-tutti_session"
BODY = {"email": EMAIL, "password": PASSWORD, "cookie": True}


async def log_in(http: httpx2.AsyncClient) -> dict[str, Any]:
    await register(http)
    answer = await http.post(LOGIN, json=BODY)
    assert answer.status_code == 200
    grant: dict[str, Any] = answer.json()
    return grant


async def test_the_cookie_is_bound_to_host_and_tls(connect: Connect) -> None:
    async with connect() as http:
        await register(http)
        answer = await http.post(LOGIN, json=BODY)
        name, _, rest = answer.headers["set-cookie"].partition("=")
        value, *attributes = rest.split("; ")
        assert name == HOST_COOKIE
        assert {"HttpOnly", "Path=/", "SameSite=lax", "Secure"} < set(attributes)
        assert not any(attribute.startswith("Domain") for attribute in attributes)
        assert answer.headers["cache-control"] == "no-store"
        assert value not in answer.text
        assert set(answer.json()) == {"account_id", "csrf_token", "expires_at"}


async def test_development_on_http_has_a_plain_one(make_platform: Callable[..., Platform]) -> None:
    async with client(make_platform(), base="http://localhost:8000", address=LOOPBACK) as http:
        grant = await log_in(http)
        assert list(http.cookies) == ["tutti_session"]
        profile = (await http.get(PROFILE)).json()
        assert (profile["id"], profile["credential"]) == (grant["account_id"], "cookie")


async def test_production_takes_no_plain_cookie(connect: Connect) -> None:
    async with connect() as http:
        await log_in(http)
        value = http.cookies[HOST_COOKIE]
        http.cookies.clear()
        assert code(await http.get(PROFILE, headers={"Cookie": f"tutti_session={value}"})) == "unauthenticated"
        assert (await http.get(PROFILE, headers={"Cookie": f"{HOST_COOKIE}={value}"})).status_code == 200


async def test_a_page_that_was_loaded_again_finds_its_token(connect: Connect) -> None:
    async with connect() as http:
        grant = await log_in(http)
        assert (await http.get(PROFILE)).headers["x-csrf-token"] == grant["csrf_token"]
        token = (await register(http, "bob@example.com"))["access_token"]
        assert "x-csrf-token" not in (await http.get(PROFILE, headers=bearer(token))).headers


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({"Sec-Fetch-Site": "same-origin", "X-CSRF-Token": "own"}, True),
        ({"Origin": "https://tutti.example", "X-CSRF-Token": "own"}, True),
        ({"X-CSRF-Token": "own"}, True),
        ({"Sec-Fetch-Site": "cross-site", "X-CSRF-Token": "own"}, False),
        ({"Origin": "https://evil.example", "X-CSRF-Token": "own"}, False),
        ({"Sec-Fetch-Site": "same-origin", "X-CSRF-Token": "other"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, False),
        ({}, False),
    ],
)
async def test_a_change_needs_the_site_and_the_token(connect: Connect, headers: dict[str, str], passes: bool) -> None:
    async with connect() as http:
        own = (await log_in(http))["csrf_token"]
        other = (await http.post(LOGIN, json=BODY)).json()["csrf_token"]
        http.cookies.clear()
        await http.post(LOGIN, json=BODY)
        own = (await http.get(PROFILE)).headers["x-csrf-token"]
        assert own != other, "bound to the session"
        named = {"own": own, "other": other}
        answer = await http.post("/write", headers={name: named.get(value, value) for name, value in headers.items()})
        assert answer.status_code == (200 if passes else 403)
        assert passes or code(answer) == "csrf_failed"


async def test_a_request_with_a_key_ignores_the_cookie(connect: Connect) -> None:
    async with connect() as http:
        await log_in(http)
        other = await register(http, "bob@example.com")
        proof = bearer(other["access_token"]) | {"Sec-Fetch-Site": "cross-site"}
        answer = await http.post("/write", headers=proof)
        assert (answer.json()["account"], answer.json()["kind"]) == (other["account_id"], "token")
        assert code(await http.post("/write", headers=bearer("wrong"))) == "invalid_credentials", "nor falls back to it"


async def test_another_sites_page_cannot_log_its_visitor_in(connect: Connect) -> None:
    async with connect() as http:
        await register(http)
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
            answer = await http.post(LOGIN, json=BODY, headers=headers)
            assert (answer.status_code, code(answer)) == (403, "csrf_failed")
            assert "set-cookie" not in answer.headers


async def test_logging_out_needs_the_token_and_takes_the_cookie_away(connect: Connect) -> None:
    async with connect() as http:
        grant = await log_in(http)
        value = http.cookies[HOST_COOKIE]
        assert code(await http.post("/api/v1/auth/logout")) == "csrf_failed"
        answer = await http.post("/api/v1/auth/logout", headers={"X-CSRF-Token": grant["csrf_token"]})
        assert answer.status_code == 204
        assert answer.headers["set-cookie"].startswith(f'{HOST_COOKIE}=""; ')
        assert HOST_COOKIE not in http.cookies
        again = await http.get(PROFILE, headers={"Cookie": f"{HOST_COOKIE}={value}"})
        assert code(again) == "invalid_credentials"


async def test_a_cookie_expires(connect: Connect, platform: Platform, clock: ManualClock) -> None:
    async with connect() as http:
        await log_in(http)
        proof = {"Cookie": f"{HOST_COOKIE}={http.cookies[HOST_COOKIE]}"}
        http.cookies.clear()
        clock.advance(platform.settings.refresh_token_ttl_s - 1)
        assert (await http.get(PROFILE, headers=proof)).status_code == 200
        clock.advance(1)
        assert code(await http.get(PROFILE, headers=proof)) == "credentials_expired"
