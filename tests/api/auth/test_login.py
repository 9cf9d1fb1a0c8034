"""Getting in and out over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx2
import pytest
from argon2 import PasswordHasher
from sqlalchemy import select, update

from api.auth.passwords import Passwords
from api.settings import SettingsError
from api.store.database import Database
from api.store.schema import accounts
from tests.api.auth.calls import EMAIL, LOOPBACK, PASSWORD, PROFILE, bearer, client, code, register
from tests.api.auth.conftest import Connect, ManualClock, Platform, production

LOGIN = "/api/v1/auth/login"
REFRESH = "/api/v1/auth/refresh"
LOGOUT = "/api/v1/auth/logout"
MakePlatform = Callable[..., Platform]


async def log_in(
    client: httpx2.AsyncClient, password: str = PASSWORD, email: str = EMAIL, **body: object
) -> httpx2.Response:
    return await client.post(LOGIN, json={"email": email, "password": password, **body})


# ------------------------------------------------------------------------------------------ registering
async def test_whoever_registers_is_in(connect: Connect) -> None:
    async with connect() as http:
        answer = await http.post(
            "/api/v1/auth/register", json={"email": "  Ada@Example.COM ", "password": PASSWORD, "name": " Ada "}
        )
        assert answer.status_code == 201
        assert answer.headers["location"] == PROFILE
        assert answer.headers["cache-control"] == "no-store"
        grant = answer.json()
        assert grant["token_type"] == "Bearer"
        assert grant["expires_in"] == 600
        profile = (await http.get(PROFILE, headers=bearer(grant["access_token"]))).json()
    assert profile["id"] == grant["account_id"]
    assert {name: profile[name] for name in ("email", "name", "role", "tier", "credential", "test_mode")} == {
        "email": EMAIL,
        "name": "Ada",
        "role": "user",
        "tier": "free",
        "credential": "token",
        "test_mode": False,
    }


async def test_an_email_has_one_account(connect: Connect) -> None:
    async with connect() as http:
        await register(http)
        again = await http.post("/api/v1/auth/register", json={"email": EMAIL.upper(), "password": PASSWORD})
    assert (again.status_code, code(again)) == (409, "email_taken")


async def test_of_two_at_once_one_gets_the_email(connect: Connect) -> None:
    async with connect() as http:
        body = {"email": EMAIL, "password": PASSWORD}
        answers = await asyncio.gather(*(http.post("/api/v1/auth/register", json=body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


async def test_a_refused_body_names_the_field_and_repeats_nothing(connect: Connect) -> None:
    async with connect() as http:
        answer = await http.post("/api/v1/auth/register", json={"email": EMAIL, "password": "too-short"})
    assert (answer.status_code, code(answer)) == (422, "invalid_parameter")
    assert answer.json()["error"]["param"] == "password"
    assert "too-short" not in answer.text


async def test_registration_can_be_closed(make_platform: MakePlatform) -> None:
    async with client(make_platform(**production(registration_open=False))) as http:
        answer = await http.post("/api/v1/auth/register", json={"email": EMAIL, "password": PASSWORD})
    assert (answer.status_code, code(answer)) == (403, "permission_denied")


async def test_registrations_are_limited_by_address(connect: Connect, platform: Platform) -> None:
    async with connect() as http:
        for attempt in range(10):
            await http.post("/api/v1/auth/register", json={"email": f"{attempt}@example.com", "password": PASSWORD})
        answer = await http.post("/api/v1/auth/register", json={"email": EMAIL, "password": PASSWORD})
        assert (answer.status_code, code(answer)) == (429, "rate_limited")
        assert int(answer.headers["retry-after"]) >= 1
    async with client(platform, address=("198.51.100.1", 5)) as elsewhere:
        await register(elsewhere)


@pytest.mark.parametrize("setting", ["new_account_tier", "local_tier"])
def test_a_tier_that_does_not_exist_stops_the_start(make_platform: MakePlatform, setting: str) -> None:
    with pytest.raises(SettingsError, match=f"TUTTI_{setting.upper()} is 'gold'.*free, pro, enterprise"):
        make_platform(**{setting: "gold"})


# ---------------------------------------------------------------------------------------------- logins
async def test_a_login_opens_a_session_of_its_own(connect: Connect) -> None:
    async with connect() as http:
        first = await register(http)
        answer = await log_in(http, email="ADA@example.com")
        assert answer.status_code == 200
        second = answer.json()
        assert second["account_id"] == first["account_id"]
        await http.post(LOGOUT, json={"refresh_token": first["refresh_token"]})
        assert (await http.get(PROFILE, headers=bearer(second["access_token"]))).status_code == 200


async def test_neither_words_nor_work_tell_whether_an_account_exists(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[bool] = []
    real = Passwords._matches

    def watched(self: Passwords, stored: str, password: str) -> bool:
        checked.append(stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$"))
        return real(self, stored, password)

    monkeypatch.setattr(Passwords, "_matches", watched)
    async with connect() as http:
        await register(http)
        wrong = await log_in(http, "another password")
        unknown = await log_in(http, PASSWORD, "nobody@example.com")
    assert checked == [True, True], "the same work for both"
    for answer in (wrong, unknown):
        assert (answer.status_code, code(answer)) == (401, "invalid_credentials")
        assert answer.json()["error"]["message"] == wrong.json()["error"]["message"]


async def test_an_account_without_a_password_has_no_login(connect: Connect, platform: Platform) -> None:
    await platform.accounts.directory.create(EMAIL, None)
    async with connect() as http:
        assert code(await log_in(http)) == "invalid_credentials"


async def test_a_suspended_account_is_told_so_only_with_its_password(connect: Connect, platform: Platform) -> None:
    async with connect() as http:
        grant = await register(http)
        await platform.accounts.directory.set_status(grant["account_id"], "suspended")
        answer = await log_in(http)
        assert (answer.status_code, code(answer)) == (403, "account_suspended")
        assert code(await log_in(http, "another password")) == "invalid_credentials"


async def test_guessing_is_limited_by_account_from_wherever_it_comes(platform: Platform) -> None:
    answers: list[httpx2.Response] = []
    for attempt in range(11):
        async with client(platform, address=(f"198.51.100.{attempt}", 5)) as http:
            answers.append(await log_in(http, f"guess number {attempt}"))
    assert [code(answer) for answer in answers] == ["invalid_credentials"] * 10 + ["rate_limited"]


async def test_guessing_is_limited_by_address_whatever_the_account(connect: Connect) -> None:
    async with connect() as http:
        answers = [await log_in(http, "x" * 12, f"{attempt}@example.com") for attempt in range(31)]
    assert {code(answer) for answer in answers[:30]} == {"invalid_credentials"}
    assert code(answers[30]) == "rate_limited"


async def test_an_old_hash_is_renewed_at_login(connect: Connect, database: Database) -> None:
    async with connect() as http:
        await register(http)
        old = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
        async with database.begin() as conn:
            await conn.execute(update(accounts).values(password_hash=old))
        assert (await log_in(http)).status_code == 200
        async with database.read() as conn:
            stored = (await conn.execute(select(accounts.c.password_hash))).scalar_one()
        assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert (await log_in(http)).status_code == 200


async def test_a_new_password_ends_every_session(connect: Connect, platform: Platform, clock: ManualClock) -> None:
    async with connect() as http:
        grant = await register(http)
        await platform.accounts.directory.set_password(grant["account_id"], "five loud green bassoons")
        answer = await http.post(REFRESH, json={"refresh_token": grant["refresh_token"]})
        assert code(answer) == "credentials_revoked"
        assert code(await log_in(http)) == "invalid_credentials"
        assert (await log_in(http, "five loud green bassoons")).status_code == 200


# -------------------------------------------------------------------------------------- development only
async def test_the_development_token_is_this_machines(make_platform: MakePlatform) -> None:
    platform = make_platform()
    async with client(platform, base="http://localhost:8000", address=LOOPBACK) as http:
        answer = await http.post("/api/v1/auth/dev-token")
        assert answer.status_code == 200
        profile = (await http.get(PROFILE, headers=bearer(answer.json()["access_token"]))).json()
        assert (profile["id"], profile["credential"], profile["tier"]) == ("acc_local", "token", "enterprise")
        evil = await http.post("/api/v1/auth/dev-token", headers={"Sec-Fetch-Site": "cross-site"})
        assert code(evil) == "csrf_failed"
    async with client(platform) as far:
        answer = await far.post("/api/v1/auth/dev-token")
        assert (answer.status_code, code(answer)) == (403, "permission_denied")


async def test_production_has_no_development_token(platform: Platform) -> None:
    async with client(platform, base="http://localhost:8000", address=LOOPBACK) as http:
        answer = await http.post("/api/v1/auth/dev-token")
    assert (answer.status_code, code(answer)) == (404, "not_found")
    assert "/api/v1/auth/dev-token" not in platform.app.openapi()["paths"]
