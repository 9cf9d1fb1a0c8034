"""A new secret of the installation: what the one before made goes on, and moves over when it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx2
import pytest
from sqlalchemy import select

from api.auth.api_keys import NewKey
from api.auth.principal import ALL_SCOPES
from api.auth.sessions import GRACE_S
from api.errors import ApiError
from api.store.database import Database
from api.store.schema import api_keys
from tests.api.auth.calls import EMAIL, PASSWORD, PROFILE, bearer, client, code, make_key, register
from tests.api.auth.conftest import ManualClock, Platform, production

OLD, NEW = "o" * 40, "n" * 40
KEYS = "/api/v1/user/api-keys"
REFRESH = "/api/v1/auth/refresh"
COOKIE = "__Host-tutti_session"
LEGACY = "0123456789abcdef-from-before"


@dataclass(frozen=True, slots=True)
class Stages:
    """The same installation with the old secret, with both, and with the new one alone."""

    before: Platform
    overlap: Platform
    after: Platform


@pytest.fixture
def stages(make_platform: Callable[..., Platform]) -> Stages:
    return Stages(
        make_platform(**production(secret_key=OLD)),
        make_platform(**production(secret_key=NEW, previous_secret_keys=OLD)),
        make_platform(**production(secret_key=NEW)),
    )


async def asked(platform: Platform, proof: dict[str, str]) -> httpx2.Response:
    async with client(platform) as http:
        return await http.get(PROFILE, headers=proof)


async def refreshed(platform: Platform, token: str) -> httpx2.Response:
    async with client(platform) as http:
        return await http.post(REFRESH, json={"refresh_token": token})


# ------------------------------------------------------------------------------------------ access tokens
async def test_an_access_token_lives_out_its_time(stages: Stages, clock: ManualClock) -> None:
    async with client(stages.before) as http:
        proof = bearer((await register(http))["access_token"])
    assert (await asked(stages.overlap, proof)).status_code == 200
    assert code(await asked(stages.after, proof)) == "invalid_credentials"
    clock.advance(stages.before.settings.access_token_ttl_s + 5)
    assert code(await asked(stages.overlap, proof)) == "credentials_expired"


async def test_what_is_new_is_made_with_the_new_secret_alone(stages: Stages) -> None:
    async with client(stages.overlap) as http:
        grant = await register(http)
        made = await make_key(http, grant["access_token"])
        cookie = await http.post("/api/v1/auth/login", json={"email": EMAIL, "password": PASSWORD, "cookie": True})
        session = http.cookies[COOKIE]
    for proof in (bearer(grant["access_token"]), bearer(made["key"]), {"Cookie": f"{COOKIE}={session}"}):
        assert (await asked(stages.after, proof)).status_code == 200
        assert code(await asked(stages.before, proof)) == "invalid_credentials"
    shown = await asked(stages.after, {"Cookie": f"{COOKIE}={session}"})
    assert shown.headers["x-csrf-token"] == cookie.json()["csrf_token"]
    assert (await refreshed(stages.after, grant["refresh_token"])).status_code == 200


# ------------------------------------------------------------------------------------------------- keys
async def test_a_key_moves_over_when_it_is_used(stages: Stages, database: Database) -> None:
    async with client(stages.before) as http:
        token = (await register(http))["access_token"]
        used, unused = [(await make_key(http, token))["key"] for _ in range(2)]
    assert (await asked(stages.overlap, bearer(used))).status_code == 200
    assert (await asked(stages.after, bearer(used))).status_code == 200
    assert code(await asked(stages.after, bearer(unused))) == "invalid_credentials"
    assert (await asked(stages.overlap, bearer(unused))).status_code == 200


async def test_a_key_that_was_used_a_moment_before_moves_over_too(stages: Stages) -> None:
    async with client(stages.before) as http:
        key = (await make_key(http, (await register(http))["access_token"]))["key"]
        assert (await http.get(PROFILE, headers=bearer(key))).status_code == 200
    for platform in (stages.overlap, stages.after):
        assert (await asked(platform, bearer(key))).status_code == 200


async def test_a_legacy_key_moves_over_and_is_not_taken_over_twice(stages: Stages) -> None:
    account = await stages.before.accounts.directory.create(EMAIL, None)
    wanted = NewKey("old", "live", ALL_SCOPES)
    await stages.before.accounts.keys.adopt(account.id, wanted, LEGACY)
    with pytest.raises(ApiError, match="known here already"):
        await stages.overlap.accounts.keys.adopt(account.id, wanted, LEGACY)
    for platform in (stages.overlap, stages.after):
        assert (await asked(platform, {"X-API-Key": LEGACY})).status_code == 200


async def test_a_revoked_key_stays_revoked(stages: Stages) -> None:
    async with client(stages.before) as http:
        token = (await register(http))["access_token"]
        made = await make_key(http, token)
        await http.delete(f"{KEYS}/{made['id']}", headers=bearer(token))
    assert code(await asked(stages.overlap, bearer(made["key"]))) == "credentials_revoked"


async def test_gateways_that_have_not_both_secrets_in_the_same_place_yet_understand_each_other(
    make_platform: Callable[..., Platform],
) -> None:
    """The new secret can be made known everywhere, as one that is accepted, before anybody signs with it."""
    first = make_platform(**production(secret_key=OLD, previous_secret_keys=NEW))
    second = make_platform(**production(secret_key=NEW, previous_secret_keys=OLD))
    async with client(first) as http:
        grant = await register(http)
        key = (await make_key(http, grant["access_token"]))["key"]
    for platform in (second, first, second):
        for proof in (key, grant["access_token"]):
            assert (await asked(platform, bearer(proof))).status_code == 200


async def test_a_key_that_was_made_once_is_told_again(stages: Stages) -> None:
    headers = {"Idempotency-Key": "order-1"}
    async with client(stages.before) as http:
        proof = bearer((await register(http))["access_token"])
        first = (await http.post(KEYS, json={"name": "x"}, headers=proof | headers)).json()["key"]
    async with client(stages.overlap) as http:
        assert (await http.post(KEYS, json={"name": "x"}, headers=proof | headers)).json()["key"] == first
        assert (await http.get(PROFILE, headers=bearer(first))).status_code == 200
        assert (await http.post(KEYS, json={"name": "x"}, headers=proof | headers)).json()["key"] == first


async def test_a_key_whose_secret_is_gone_is_not_told_wrongly(stages: Stages, database: Database) -> None:
    headers = {"Idempotency-Key": "order-1"}
    async with client(stages.before) as http:
        await http.post(KEYS, json={"name": "x"}, headers=bearer((await register(http))["access_token"]) | headers)
    async with client(stages.after) as http:
        grant = (await http.post("/api/v1/auth/login", json={"email": EMAIL, "password": PASSWORD})).json()
        answer = await http.post(KEYS, json={"name": "x"}, headers=bearer(grant["access_token"]) | headers)
    async with database.read() as conn:
        (key_id,) = await conn.scalars(select(api_keys.c.id))
    assert (answer.status_code, code(answer)) == (422, "idempotency_key_reused")
    assert "revoke it, and make another" in answer.json()["error"]["message"]
    assert key_id in answer.json()["error"]["message"]


async def test_keys_that_still_hang_on_the_old_secret_are_counted(stages: Stages, clock: ManualClock) -> None:
    async with client(stages.before) as http:
        token = (await register(http))["access_token"]
        used, _, revoked = [await make_key(http, token) for _ in range(3)]
        await http.get(PROFILE, headers=bearer(used["key"]))
        await http.delete(f"{KEYS}/{revoked['id']}", headers=bearer(token))
    clock.advance(1)
    replaced_at = clock()
    keys = stages.overlap.accounts.keys
    assert await keys.unused_since(replaced_at) == (2, 2)
    async with client(stages.overlap) as http:
        await http.get(PROFILE, headers=bearer(used["key"]))
        await make_key(http, token)
    assert await keys.unused_since(replaced_at) == (1, 3)


# --------------------------------------------------------------------------------------------- sessions
async def test_a_session_moves_over_when_it_is_refreshed(stages: Stages) -> None:
    async with client(stages.before) as http:
        used, unused = await register(http), await register(http, "bob@example.com")
    renewed = await refreshed(stages.overlap, used["refresh_token"])
    assert renewed.status_code == 200
    assert (await refreshed(stages.after, renewed.json()["refresh_token"])).status_code == 200
    assert code(await refreshed(stages.after, unused["refresh_token"])) == "invalid_credentials"


async def test_a_stolen_token_is_noticed_after_its_secret_has_gone(stages: Stages, clock: ManualClock) -> None:
    async with client(stages.before) as http:
        stolen = (await register(http))["refresh_token"]
    renewed = (await refreshed(stages.overlap, stolen)).json()["refresh_token"]
    clock.advance(GRACE_S + 1)
    assert code(await refreshed(stages.after, stolen)) == "credentials_revoked"
    assert code(await refreshed(stages.after, renewed)) == "credentials_revoked", "the session has ended"


async def test_an_answer_that_was_lost_while_the_secret_changed_is_given_again(stages: Stages) -> None:
    async with client(stages.before) as http:
        first = (await register(http))["refresh_token"]
    lost = (await refreshed(stages.before, first)).json()["refresh_token"]
    again = (await refreshed(stages.overlap, first)).json()["refresh_token"]
    assert again == lost
    assert (await refreshed(stages.overlap, again)).status_code == 200


async def test_a_session_of_before_can_be_ended(stages: Stages) -> None:
    async with client(stages.before) as http:
        grant = await register(http)
    async with client(stages.overlap) as http:
        await http.post("/api/v1/auth/logout", json={"refresh_token": grant["refresh_token"]})
    assert code(await refreshed(stages.overlap, grant["refresh_token"])) == "credentials_revoked"


async def test_a_browser_goes_on_with_its_cookie_and_the_page_it_has_loaded(stages: Stages) -> None:
    async with client(stages.before) as http:
        await register(http)
        login = await http.post("/api/v1/auth/login", json={"email": EMAIL, "password": PASSWORD, "cookie": True})
        cookie = {"Cookie": f"{COOKIE}={http.cookies[COOKIE]}"}
    loaded = {**cookie, "X-CSRF-Token": login.json()["csrf_token"]}
    async with client(stages.overlap) as http:
        assert (await http.post("/write", headers=loaded)).status_code == 200
        fresh = (await http.get(PROFILE, headers=cookie)).headers["x-csrf-token"]
    assert fresh != loaded["X-CSRF-Token"]
    async with client(stages.after) as http:
        assert (await http.post("/write", headers={**cookie, "X-CSRF-Token": fresh})).status_code == 200
        assert code(await http.post("/write", headers=loaded)) == "csrf_failed"
