"""One key, one generation: on both databases."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from api.errors import ApiError, ErrorCode
from api.limits import idempotency
from api.limits.idempotency import Claim, StoredResponse
from api.store import schema
from api.store.database import Database
from tests.api.limits.rows import NOW, add_account, add_generation

HASH = idempotency.request_hash("POST", "/api/v1/generate", {"prompt": "calm piano"})


@pytest.fixture
async def account(database: Database) -> str:
    return await add_account(database)


async def call(database: Database, account: str, key: str = "k", request_hash: str = HASH, **late: Any) -> Claim:
    """What a route does that creates a generation."""
    async with database.begin() as conn:
        claimed = await idempotency.claim(conn, account, key, request_hash, late.get("now", NOW))
        if claimed.replay is None:
            made = await add_generation(conn, account)
            await idempotency.complete(conn, claimed, status=202, body={"id": made}, resource_id=made)
    return claimed


async def count(database: Database) -> int:
    async with database.read() as conn:
        return await conn.scalar(select(func.count()).select_from(schema.generations)) or 0


async def test_the_second_call_gets_the_first_ones_answer(database: Database, account: str) -> None:
    assert (await call(database, account)).replay is None
    replay = (await call(database, account)).replay
    assert replay is not None
    assert replay == StoredResponse(202, {"id": replay.resource_id}, replay.resource_id)
    assert str(replay.resource_id).startswith("gen_")
    assert await count(database) == 1


async def test_many_at_once_make_one(database: Database, account: str, database_url: str) -> None:
    gateways = [Database.connect(database_url) for _ in range(4)]
    claims = await asyncio.gather(*(call(gateways[each % 4], account) for each in range(20)))
    await asyncio.gather(*(gateway.close() for gateway in gateways))
    assert [each.replay for each in claims].count(None) == 1
    assert await count(database) == 1


async def test_another_payload_is_refused(database: Database, account: str) -> None:
    await call(database, account)
    with pytest.raises(ApiError) as caught:
        await call(database, account, request_hash="0" * 64)
    assert caught.value.code is ErrorCode.IDEMPOTENCY_KEY_REUSED
    assert caught.value.status_code == 422
    assert caught.value.param == "Idempotency-Key"
    assert await count(database) == 1


async def test_a_call_without_an_answer_yet_is_in_flight(database: Database, account: str) -> None:
    async with database.begin() as conn:
        await idempotency.claim(conn, account, "k", HASH, NOW)
    with pytest.raises(ApiError) as caught:
        await call(database, account)
    assert caught.value.code is ErrorCode.IDEMPOTENCY_IN_FLIGHT
    assert caught.value.status_code == 409
    assert "Retry-After" in (caught.value.headers or {})
    with pytest.raises(ApiError, match="another request"):
        await call(database, account, request_hash="0" * 64)


async def test_a_call_that_fails_leaves_no_key(database: Database, account: str) -> None:
    async def fails() -> None:
        async with database.begin() as conn:
            await idempotency.claim(conn, account, "k", HASH, NOW)
            raise ApiError(ErrorCode.QUOTA_EXCEEDED)

    with pytest.raises(ApiError):
        await fails()
    assert (await call(database, account, request_hash="0" * 64)).replay is None


async def test_keys_belong_to_accounts(database: Database, account: str) -> None:
    await call(database, account)
    assert (await call(database, await add_account(database, "acc_2"))).replay is None


async def test_a_key_is_kept_for_a_day(database: Database, account: str) -> None:
    await call(database, account)
    almost, after = NOW + timedelta(hours=24, seconds=-1), NOW + timedelta(hours=24)
    assert (await call(database, account, now=almost)).replay is not None
    # As good as none, though nobody has removed it yet; and the answer that it had is gone.
    assert (await call(database, account, request_hash="0" * 64, now=after)).replay is None
    assert await count(database) == 2


async def test_an_expired_key_that_is_taken_again_has_no_answer(database: Database, account: str) -> None:
    await call(database, account)
    after = NOW + timedelta(hours=25)
    async with database.begin() as conn:
        await idempotency.claim(conn, account, "k", HASH, after)
    with pytest.raises(ApiError) as caught:
        await call(database, account, now=after)
    assert caught.value.code is ErrorCode.IDEMPOTENCY_IN_FLIGHT


async def test_expired_keys_are_removed(database: Database, account: str) -> None:
    await call(database, account, "old")
    await call(database, account, "new", now=NOW + timedelta(hours=1))
    async with database.begin() as conn:
        assert await idempotency.purge(conn, NOW + timedelta(hours=24)) == 1
        assert await idempotency.purge(conn, NOW + timedelta(hours=24)) == 0
    assert (await call(database, account, "new")).replay is not None


@pytest.mark.parametrize("status", [401, 429, 500, 503])
async def test_such_answers_are_never_stored(database: Database, account: str, status: int) -> None:
    async with database.begin() as conn:
        claimed = await idempotency.claim(conn, account, "k", HASH, NOW)
        with pytest.raises(ValueError, match=f"{status} is never stored"):
            await idempotency.complete(conn, claimed, status=status, body={})


@pytest.mark.parametrize("key", ["a", "~" * 255, "8e03978e-40d5-43e8-bc93-6894a57f9324", "!#$%"])
def test_keys_that_are_taken(key: str) -> None:
    assert idempotency.validate_key(key) == key


def test_no_key() -> None:
    assert idempotency.validate_key(None) is None


@pytest.mark.parametrize("key", ["", " ", "a b", "a" * 256, "ü", "a\n", "\x7f", "\x00"])
def test_keys_that_are_refused(key: str) -> None:
    with pytest.raises(ApiError, match="1 to 255 visible ASCII") as caught:
        idempotency.validate_key(key)
    assert caught.value.status_code == 422
    assert caught.value.param == "Idempotency-Key"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=6))
def test_the_order_of_members_does_not_count(payload: dict[str, Any]) -> None:
    backwards = dict(reversed(payload.items()))
    assert idempotency.request_hash("post", "/x", payload) == idempotency.request_hash("POST", "/x", backwards)


@pytest.mark.parametrize(
    ("method", "route", "payload"),
    [
        ("PUT", "/x", {"a": [1, 2]}),
        ("POST", "/y", {"a": [1, 2]}),
        ("POST", "/x", {"a": [2, 1]}),
        ("POST", "/x", {"a": ["1", 2]}),
        ("POST", "/x", {"b": [1, 2]}),
        ("POST", "/x", None),
    ],
)
def test_everything_else_does(method: str, route: str, payload: Any) -> None:
    first = idempotency.request_hash("POST", "/x", {"a": [1, 2]})
    assert len(first) == 64
    assert idempotency.request_hash(method, route, payload) != first


def test_what_is_no_json_has_no_hash() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        idempotency.request_hash("POST", "/x", {"a": float("nan")})
