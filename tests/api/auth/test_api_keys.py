"""API keys over HTTP: made once, shown once, limited, rotated, revoked."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from api.auth.api_keys import MAX_ACTIVE_KEYS, NewKey
from api.auth.principal import ALL_SCOPES, Scope
from api.errors import ApiError, ErrorCode
from api.store.database import Database
from api.store.schema import api_keys
from tests.api.auth.calls import PROFILE, bearer, code, make_key, register
from tests.api.auth.conftest import Connect, ManualClock, Platform

KEYS = "/api/v1/user/api-keys"


async def listed(http: httpx2.AsyncClient, token: str) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = (await http.get(KEYS, headers=bearer(token))).json()["data"]
    return data


async def test_a_key_is_shown_once_and_stored_as_an_hmac(connect: Connect, database: Database) -> None:
    async with connect() as http:
        token = (await register(http))["access_token"]
        answer = await http.post(KEYS, json={"name": "studio"}, headers=bearer(token))
        made = answer.json()
        assert answer.headers["location"] == f"{KEYS}/{made['id']}"
        assert answer.headers["cache-control"] == "no-store"
        assert set(made["scopes"]) == ALL_SCOPES
        (shown,) = await listed(http, token)
        assert shown == {name: value for name, value in made.items() if name != "key"}
        assert shown["hint"] == f"sk_live_tt_…{made['key'][-4:]}"
    async with database.read() as conn:
        stored = (await conn.execute(select(api_keys))).mappings().one()
    assert made["key"] not in map(str, stored.values())
    assert stored["key_hash"] != hashlib.sha256(made["key"].encode()).hexdigest(), "keyed, not only hashed"


async def test_a_key_makes_no_key_that_may_more(connect: Connect) -> None:
    async with connect() as http:
        token = (await register(http))["access_token"]
        manager = (await make_key(http, token, scopes=["account:write", "audio:read"]))["key"]
        made = await make_key(http, manager)
        assert set(made["scopes"]) == {"account:write", "audio:read"}, "left out: its own"
        answer = await http.post(KEYS, json={"name": "x", "scopes": ["audio:write"]}, headers=bearer(manager))
        assert (answer.status_code, code(answer)) == (403, "permission_denied")
        full = await make_key(http, token)
        answer = await http.post(f"{KEYS}/{full['id']}/rotate", headers=bearer(manager))
        assert code(answer) == "permission_denied", "nor gets one by rotating it"


async def test_a_test_key_makes_test_keys(connect: Connect) -> None:
    async with connect() as http:
        token = (await register(http))["access_token"]
        live, test = await make_key(http, token), (await make_key(http, token, mode="test"))["key"]
        assert (await make_key(http, test, mode="test"))["mode"] == "test"
        answer = await http.post(KEYS, json={"name": "x"}, headers=bearer(test))
        assert (answer.status_code, code(answer)) == (403, "permission_denied")
        assert code(await http.post(f"{KEYS}/{live['id']}/rotate", headers=bearer(test))) == "permission_denied"


async def test_an_expiry_that_has_passed_is_refused(connect: Connect, clock: ManualClock) -> None:
    async with connect() as http:
        token = (await register(http))["access_token"]
        body = {"name": "x", "expires_at": clock().isoformat()}
        answer = await http.post(KEYS, json=body, headers=bearer(token))
    assert (answer.status_code, code(answer), answer.json()["error"]["param"]) == (
        422,
        "invalid_parameter",
        "expires_at",
    )


async def test_a_key_is_revoked_for_good(connect: Connect) -> None:
    async with connect() as http:
        token = (await register(http))["access_token"]
        made = await make_key(http, token)
        for _ in range(2):
            answer = await http.delete(f"{KEYS}/{made['id']}", headers=bearer(token))
            assert (answer.status_code, answer.content) == (204, b"")
        assert (await listed(http, token))[0]["status"] == "revoked"
        assert code(await http.get(PROFILE, headers=bearer(made["key"]))) == "credentials_revoked"
        assert code(await http.post(f"{KEYS}/{made['id']}/rotate", headers=bearer(token))) == "api_key_inactive"


@pytest.mark.parametrize("key_id", ["key_" + "0" * 24, "x", "key_%00", "%F0%9F%8E%B5", "k" * 500])
async def test_a_key_that_is_not_there_or_not_ones_own_is_not_found(connect: Connect, key_id: str) -> None:
    async with connect() as http:
        token = (await register(http))["access_token"]
        other = (await register(http, "bob@example.com"))["access_token"]
        foreign = (await make_key(http, other))["id"]
        for wanted in (key_id, foreign):
            for answer in (
                await http.delete(f"{KEYS}/{wanted}", headers=bearer(token)),
                await http.post(f"{KEYS}/{wanted}/rotate", headers=bearer(token)),
            ):
                assert (answer.status_code, code(answer)) == (404, "api_key_not_found")
        assert (await listed(http, other))[0]["status"] == "active"
        assert await listed(http, token) == []


async def test_rotation_overlaps(connect: Connect, clock: ManualClock) -> None:
    async with connect() as http:
        token = (await register(http))["access_token"]
        old = await make_key(http, token, scopes=["account:read"], mode="test")
        answer = await http.post(f"{KEYS}/{old['id']}/rotate", json={"overlap_s": 500}, headers=bearer(token))
        assert answer.status_code == 201
        new = answer.json()
        assert answer.headers["location"] == f"{KEYS}/{new['id']}"
        for field in ("name", "mode", "scopes", "expires_at"):
            assert new[field] == old[field]
        for key in (old["key"], new["key"]):
            assert (await http.get(PROFILE, headers=bearer(key))).status_code == 200
        clock.advance(500)
        assert code(await http.get(PROFILE, headers=bearer(old["key"]))) == "credentials_expired"
        assert (await http.get(PROFILE, headers=bearer(new["key"]))).status_code == 200
        rows = {row["id"]: row for row in await listed(http, token)}
        assert (rows[old["id"]]["status"], rows[old["id"]]["successor_id"]) == ("expired", new["id"])


async def test_a_key_has_one_successor(connect: Connect) -> None:
    async with connect() as http:
        token = (await register(http))["access_token"]
        old = await make_key(http, token)
        path = f"{KEYS}/{old['id']}/rotate"
        answers = await asyncio.gather(*(http.post(path, headers=bearer(token)) for _ in range(3)))
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
        assert len(await listed(http, token)) == 2


async def test_a_successor_lives_as_long_as_its_predecessor_was_meant_to(connect: Connect, clock: ManualClock) -> None:
    async with connect() as http:
        grant = await register(http)
        old = await make_key(http, grant["access_token"], expires_at=(clock() + timedelta(seconds=400)).isoformat())
        clock.advance(300)
        path = f"{KEYS}/{old['id']}/rotate"
        new = (await http.post(path, json={}, headers=bearer(grant["access_token"]))).json()
        assert datetime.fromisoformat(new["expires_at"]) == clock() + timedelta(seconds=400)
        rows = {row["id"]: row for row in await listed(http, grant["access_token"])}
        assert rows[old["id"]]["expires_at"] == old["expires_at"], "an overlap does not prolong it"


async def test_an_account_has_at_most_fifty_active_keys(connect: Connect, platform: Platform) -> None:
    async with connect() as http:
        grant = await register(http)
        made = [
            await platform.accounts.keys.create(grant["account_id"], NewKey(f"{n}", "live", ALL_SCOPES))
            for n in range(MAX_ACTIVE_KEYS)
        ]
        token = bearer(grant["access_token"])
        answer = await http.post(KEYS, json={"name": "one more"}, headers=token)
        assert (answer.status_code, code(answer)) == (409, "limit_reached")
        await http.delete(f"{KEYS}/{made[0].key.id}", headers=token)
        assert (await http.post(KEYS, json={"name": "one more"}, headers=token)).status_code == 201
        rows = await listed(http, grant["access_token"])
        assert [row["status"] for row in rows] == ["active"] * MAX_ACTIVE_KEYS + ["revoked"]


async def test_last_use_is_noted_once_a_minute(connect: Connect, platform: Platform, clock: ManualClock) -> None:
    began = clock()
    noted: list[float] = []
    async with connect() as http:
        grant = await register(http)
        key = (await make_key(http, grant["access_token"]))["key"]
        for seconds in (0, 30, 27, 3, 10):
            clock.advance(seconds)
            await http.get(PROFILE, headers=bearer(key))
            (stored,) = await platform.accounts.keys.of_account(grant["account_id"])
            assert stored.last_used_at is not None
            noted.append((stored.last_used_at - began).total_seconds())
    assert noted == [0, 0, 0, 60, 60]


# ------------------------------------------------------------------------------------------- idempotency
async def test_a_call_that_is_sent_again_is_answered_again(connect: Connect, database: Database) -> None:
    async with connect() as http:
        headers = bearer((await register(http))["access_token"]) | {"Idempotency-Key": "order-1"}
        first = await http.post(KEYS, json={"name": "studio"}, headers=headers)
        again = await http.post(KEYS, json={"name": "studio", "mode": "live"}, headers=headers)
        assert first.status_code == again.status_code == 201
        assert again.json() == first.json()
        assert (again.headers["idempotent-replayed"], first.headers.get("idempotent-replayed")) == ("true", None)
        other = await http.post(KEYS, json={"name": "other"}, headers=headers)
        assert (other.status_code, code(other)) == (422, "idempotency_key_reused")
        path = f"{KEYS}/{first.json()['id']}/rotate"
        headers["Idempotency-Key"] = "order-2"
        rotated = [await http.post(path, headers=headers) for _ in range(2)]
        assert rotated[0].json() == rotated[1].json() != first.json()
        assert (await http.get(PROFILE, headers=bearer(rotated[1].json()["key"]))).status_code == 200
    async with database.read() as conn:
        assert len((await conn.execute(select(api_keys))).all()) == 2


async def test_of_two_at_once_with_one_idempotency_key_one_key_comes(connect: Connect) -> None:
    async with connect() as http:
        token = (await register(http))["access_token"]
        headers = bearer(token) | {"Idempotency-Key": "order-1"}
        answers = await asyncio.gather(*(http.post(KEYS, json={"name": "x"}, headers=headers) for _ in range(4)))
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["key"] for answer in answers}) == 1
        assert len(await listed(http, token)) == 1


async def test_the_way_back_to_a_key_is_forgotten_with_its_idempotency_key(
    connect: Connect, clock: ManualClock
) -> None:
    async with connect() as http:
        grant = await register(http)
        login = {"email": "ada@example.com", "password": "four calm violet trombones"}
        first = await http.post(
            KEYS, json={"name": "x"}, headers=bearer(grant["access_token"]) | {"Idempotency-Key": "order-1"}
        )
        clock.advance(86_400)
        token = (await http.post("/api/v1/auth/login", json=login)).json()["access_token"]
        second = await http.post(KEYS, json={"name": "x"}, headers=bearer(token) | {"Idempotency-Key": "order-1"})
        assert second.status_code == 201
        assert second.json()["key"] != first.json()["key"]


async def test_a_bad_idempotency_key_is_refused(connect: Connect) -> None:
    async with connect() as http:
        headers = bearer((await register(http))["access_token"]) | {"Idempotency-Key": "with space"}
        answer = await http.post(KEYS, json={"name": "x"}, headers=headers)
    assert (answer.status_code, code(answer)) == (422, "invalid_parameter")


# ------------------------------------------------------------------------------------------- legacy keys
@pytest.mark.parametrize("legacy", ["short", "sk_live_tt_" + "a" * 36])
async def test_only_a_key_without_a_prefix_can_be_taken_over(platform: Platform, legacy: str) -> None:
    account = await platform.accounts.directory.create("ada@example.com", None)
    with pytest.raises(ApiError) as refused:
        await platform.accounts.keys.adopt(account.id, NewKey("old", "live", frozenset({Scope.AUDIO_READ})), legacy)
    assert refused.value.code is ErrorCode.INVALID_PARAMETER


async def test_a_legacy_key_is_taken_over_once(platform: Platform) -> None:
    account = await platform.accounts.directory.create("ada@example.com", None)
    wanted = NewKey("old", "live", frozenset({Scope.AUDIO_READ}))
    adopted = await platform.accounts.keys.adopt(account.id, wanted, "0123456789abcdef")
    assert adopted.hint == "…cdef"
    with pytest.raises(ApiError, match="known here already"):
        await platform.accounts.keys.adopt(account.id, wanted, "0123456789abcdef")
