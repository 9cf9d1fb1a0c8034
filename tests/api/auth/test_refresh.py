"""Staying in and getting out over HTTP."""

from __future__ import annotations

import pytest

from tests.api.auth.calls import PROFILE, bearer, code, register
from tests.api.auth.conftest import Connect, ManualClock

REFRESH = "/api/v1/auth/refresh"
LOGOUT = "/api/v1/auth/logout"


async def test_refreshing_gives_a_working_pair(connect: Connect, clock: ManualClock) -> None:
    async with connect() as http:
        grant = await register(http)
        clock.advance(700)
        assert code(await http.get(PROFILE, headers=bearer(grant["access_token"]))) == "credentials_expired"
        answer = await http.post(REFRESH, json={"refresh_token": grant["refresh_token"]})
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        renewed = answer.json()
        assert (await http.get(PROFILE, headers=bearer(renewed["access_token"]))).status_code == 200
        assert renewed["refresh_token"] != grant["refresh_token"]


async def test_reuse_ends_the_session_and_with_it_its_access_tokens(connect: Connect, clock: ManualClock) -> None:
    async with connect() as http:
        grant = await register(http)
        renewed = (await http.post(REFRESH, json={"refresh_token": grant["refresh_token"]})).json()
        clock.advance(11)
        assert code(await http.post(REFRESH, json={"refresh_token": grant["refresh_token"]})) == "credentials_revoked"
        for token in (grant["access_token"], renewed["access_token"]):
            assert code(await http.get(PROFILE, headers=bearer(token))) == "credentials_revoked"


async def test_wrong_refresh_tokens_count_as_attempts(connect: Connect) -> None:
    async with connect() as http:
        answers = [await http.post(REFRESH, json={"refresh_token": f"rt_tt_{attempt}"}) for attempt in range(31)]
    assert {code(answer) for answer in answers[:30]} == {"invalid_credentials"}
    assert code(answers[30]) == "rate_limited"


@pytest.mark.parametrize("how", ["refresh_token", "access_token"])
async def test_logging_out_ends_the_session_at_once(connect: Connect, how: str) -> None:
    async with connect() as http:
        grant = await register(http)
        assert (await http.get(PROFILE, headers=bearer(grant["access_token"]))).status_code == 200
        if how == "refresh_token":
            answer = await http.post(LOGOUT, json={"refresh_token": grant["refresh_token"]})
        else:
            answer = await http.post(LOGOUT, headers=bearer(grant["access_token"]))
        assert (answer.status_code, answer.content) == (204, b"")
        assert code(await http.get(PROFILE, headers=bearer(grant["access_token"]))) == "credentials_revoked"
        refused = await http.post(REFRESH, json={"refresh_token": grant["refresh_token"]})
        assert code(refused) == "credentials_revoked"


async def test_logging_out_twice_is_no_error_and_with_nothing_it_is_one(connect: Connect) -> None:
    async with connect() as http:
        grant = await register(http)
        for _ in range(2):
            answer = await http.post(LOGOUT, json={"refresh_token": grant["refresh_token"]})
            assert answer.status_code == 204
        assert code(await http.post(LOGOUT)) == "unauthenticated"
