"""What ends a credential, and how fast that is known everywhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import update

from api.auth.authenticator import CACHE_S
from api.store.database import Database
from api.store.schema import accounts
from tests.api.auth.calls import PROFILE, bearer, client, code, make_key, register
from tests.api.auth.conftest import Connect, ManualClock, Platform, production

MakePlatform = Callable[..., Platform]


async def test_a_revoked_key_ends_here_at_once_and_elsewhere_in_three_seconds(
    make_platform: MakePlatform, clock: ManualClock
) -> None:
    here, there = (make_platform(**production()) for _ in range(2))
    async with client(here) as http, client(there) as other:
        grant = await register(http)
        made = await make_key(http, grant["access_token"])
        for gateway in (http, other):
            assert (await gateway.get(PROFILE, headers=bearer(made["key"]))).status_code == 200
        path = f"/api/v1/user/api-keys/{made['id']}"
        assert (await http.delete(path, headers=bearer(grant["access_token"]))).status_code == 204
        assert code(await http.get(PROFILE, headers=bearer(made["key"]))) == "credentials_revoked"
        clock.advance(CACHE_S - 0.001)
        assert (await other.get(PROFILE, headers=bearer(made["key"]))).status_code == 200
        clock.advance(0.001)
        assert code(await other.get(PROFILE, headers=bearer(made["key"]))) == "credentials_revoked"


async def test_logging_out_ends_an_access_token_elsewhere_in_three_seconds(
    make_platform: MakePlatform, clock: ManualClock
) -> None:
    here, there = (make_platform(**production()) for _ in range(2))
    async with client(here) as http, client(there) as other:
        grant = await register(http)
        assert (await other.get(PROFILE, headers=bearer(grant["access_token"]))).status_code == 200
        await http.post("/api/v1/auth/logout", json={"refresh_token": grant["refresh_token"]})
        clock.advance(CACHE_S)
        assert code(await other.get(PROFILE, headers=bearer(grant["access_token"]))) == "credentials_revoked"


async def test_an_expiry_holds_although_the_key_is_remembered(connect: Connect, clock: ManualClock) -> None:
    async with connect() as http:
        token = (await register(http))["access_token"]
        made = await make_key(http, token, expires_at=clock().replace(second=31).isoformat())
        assert (await http.get(PROFILE, headers=bearer(made["key"]))).status_code == 200
        clock.advance(1)
        answer = await http.get(PROFILE, headers=bearer(made["key"]))
    assert (answer.status_code, code(answer)) == (401, "credentials_expired")


@pytest.mark.parametrize(
    ("status", "expected"), [("suspended", "account_suspended"), ("erased", "credentials_revoked")]
)
@pytest.mark.parametrize("credential", ["token", "key"])
async def test_an_account_that_may_not_act_is_refused(
    connect: Connect, database: Database, clock: ManualClock, credential: str, status: str, expected: str
) -> None:
    async with connect() as http:
        token = (await register(http))["access_token"]
        proof = bearer(token if credential == "token" else (await make_key(http, token))["key"])
        assert (await http.get(PROFILE, headers=proof)).status_code == 200
        async with database.begin() as conn:
            await conn.execute(update(accounts).values(status=status))
        clock.advance(CACHE_S)
        assert code(await http.get(PROFILE, headers=proof)) == expected


async def test_a_token_of_a_session_that_is_not_its_accounts_is_refused(connect: Connect, platform: Platform) -> None:
    async with connect() as http:
        first, second = await register(http), await register(http, "bob@example.com")
        tokens = platform.accounts._tokens
        session = tokens.read(first["access_token"]).session_id
        mixed = tokens.issue(second["account_id"], session)
        assert code(await http.get(PROFILE, headers=bearer(mixed))) == "credentials_revoked"
