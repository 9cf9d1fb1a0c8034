"""The life of a refresh token: used once, used twice, lost on its way, raced for, expired, ended."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from sqlalchemy import func, select, update

from api.auth.sessions import GRACE_S, BrowserSession, Session, Sessions
from api.errors import ApiError, ErrorCode
from api.store.database import Database
from api.store.schema import accounts, refresh_tokens
from tests.api.auth.conftest import ManualClock
from tests.api.limits.rows import add_account

TTL_S = 3600.0


@pytest.fixture
async def sessions(database: Database, clock: ManualClock) -> Sessions:
    await add_account(database)
    return Sessions(database, ("s" * 40,), clock, TTL_S)


async def refusal(sessions: Sessions, token: str) -> ErrorCode:
    with pytest.raises(ApiError) as refused:
        await sessions.refresh(token)
    assert "WWW-Authenticate" in (refused.value.headers or {})
    return refused.value.code


async def count(database: Database) -> int:
    async with database.read() as conn:
        return int((await conn.execute(select(func.count()).select_from(refresh_tokens))).scalar_one())


async def test_each_token_has_one_successor_in_the_same_session(sessions: Sessions, clock: ManualClock) -> None:
    current = await sessions.open("acc_1", "token")
    seen = {current.token}
    for _ in range(5):
        clock.advance(60)
        successor = await sessions.refresh(current.token)
        assert (successor.id, successor.account_id) == (current.id, "acc_1")
        assert (successor.expires_at - clock()).total_seconds() == TTL_S
        seen.add(successor.token)
        current = successor
    assert len(seen) == 6


async def test_using_a_token_twice_ends_the_session(sessions: Sessions, clock: ManualClock) -> None:
    stolen = await sessions.open("acc_1", "token")
    other = await sessions.open("acc_1", "token")
    successor = await sessions.refresh(stolen.token)
    clock.advance(GRACE_S + 0.1)
    assert await refusal(sessions, stolen.token) is ErrorCode.CREDENTIALS_REVOKED
    assert await refusal(sessions, successor.token) is ErrorCode.CREDENTIALS_REVOKED, "the thief's or the owner's"
    await sessions.refresh(other.token)


async def test_a_lost_answer_is_given_again(sessions: Sessions, clock: ManualClock) -> None:
    first = await sessions.open("acc_1", "token")
    lost = await sessions.refresh(first.token)
    clock.advance(GRACE_S)
    again = await sessions.refresh(first.token)
    assert again == lost
    await sessions.refresh(again.token)


async def test_grace_ends_when_the_successor_is_used(sessions: Sessions, clock: ManualClock) -> None:
    first = await sessions.open("acc_1", "token")
    second = await sessions.refresh(first.token)
    third = await sessions.refresh(second.token)
    clock.advance(1)
    assert await refusal(sessions, first.token) is ErrorCode.CREDENTIALS_REVOKED
    assert await refusal(sessions, third.token) is ErrorCode.CREDENTIALS_REVOKED


async def test_of_many_at_once_all_get_the_same_successor(sessions: Sessions, database: Database) -> None:
    first = await sessions.open("acc_1", "token")
    got: list[Session] = await asyncio.gather(*(sessions.refresh(first.token) for _ in range(8)))
    assert len({session.token for session in got}) == 1
    assert await count(database) == 2
    await sessions.refresh(got[0].token)


async def test_reuse_refresh_and_logout_at_once_do_not_wait_for_each_other(
    sessions: Sessions, clock: ManualClock
) -> None:
    first = await sessions.open("acc_1", "token")
    second = await sessions.refresh(first.token)
    third = await sessions.refresh(second.token)
    clock.advance(GRACE_S + 1)
    answers = await asyncio.gather(
        *(sessions.refresh(token) for token in [first.token, second.token, third.token] * 3),
        *(sessions.end_by_id(first.id, "acc_1") for _ in range(3)),
        return_exceptions=True,
    )
    codes = {getattr(answer, "code", None) for answer in answers if isinstance(answer, Exception)}
    assert codes == {ErrorCode.CREDENTIALS_REVOKED}
    assert await refusal(sessions, third.token) is ErrorCode.CREDENTIALS_REVOKED


async def test_an_expired_token_is_refused_and_its_session_goes_on_elsewhere(
    sessions: Sessions, clock: ManualClock
) -> None:
    first = await sessions.open("acc_1", "token")
    clock.advance(TTL_S - 1)
    second = await sessions.refresh(first.token)
    clock.advance(TTL_S - 1)
    await sessions.refresh(second.token)
    unused = await sessions.open("acc_1", "token")
    clock.advance(TTL_S)
    assert await refusal(sessions, unused.token) is ErrorCode.CREDENTIALS_EXPIRED


@pytest.mark.parametrize("token", ["", "rt_tt_", "rt_tt_" + "A" * 43, "sk_live_tt_" + "A" * 36])
async def test_an_unknown_token_is_refused(sessions: Sessions, token: str) -> None:
    assert await refusal(sessions, token) is ErrorCode.INVALID_CREDENTIALS


async def test_an_ended_session_is_over(sessions: Sessions) -> None:
    by_id, by_token = [await sessions.open("acc_1", "token") for _ in range(2)]
    await sessions.end_by_id(by_id.id, "acc_1")
    await sessions.end_by_token(by_token.token)
    await sessions.end_by_token("unknown")
    for session in (by_id, by_token):
        assert await refusal(sessions, session.token) is ErrorCode.CREDENTIALS_REVOKED


@pytest.mark.parametrize(
    ("status", "expected"), [("suspended", ErrorCode.ACCOUNT_SUSPENDED), ("erased", ErrorCode.CREDENTIALS_REVOKED)]
)
async def test_an_account_that_may_not_act_gets_no_successor(
    sessions: Sessions, database: Database, status: str, expected: ErrorCode
) -> None:
    session = await sessions.open("acc_1", "token")
    async with database.begin() as conn:
        await conn.execute(update(accounts).values(status=status))
    with pytest.raises(ApiError) as refused:
        await sessions.refresh(session.token)
    assert refused.value.code is expected


async def test_a_cookie_cannot_be_refreshed_nor_a_refresh_token_be_a_cookie(
    sessions: Sessions, database: Database
) -> None:
    cookie, token = await sessions.open("acc_1", "cookie"), await sessions.open("acc_1", "token")
    assert await refusal(sessions, cookie.token) is ErrorCode.INVALID_CREDENTIALS
    async with database.read() as conn:
        assert await sessions.by_cookie(conn, token.token) is None
        found = await sessions.by_cookie(conn, cookie.token)
        assert found == BrowserSession(cookie.id, "acc_1", cookie.expires_at, outdated=False)
    await sessions.end_by_id(cookie.id, "acc_1")
    async with database.read() as conn:
        assert await sessions.by_cookie(conn, cookie.token) is None


async def test_nothing_that_is_stored_can_be_used(sessions: Sessions, database: Database) -> None:
    session = await sessions.open("acc_1", "token")
    async with database.read() as conn:
        stored = (await conn.execute(select(refresh_tokens))).mappings().one()
    assert session.token not in map(str, stored.values())
    assert stored["token_hash"] != hashlib.sha256(session.token.encode()).hexdigest(), "keyed, not only hashed"


async def test_long_expired_ones_are_forgotten_at_the_next_login(
    sessions: Sessions, database: Database, clock: ManualClock
) -> None:
    await sessions.open("acc_1", "token")
    clock.advance(TTL_S + 86_400)
    await sessions.open("acc_1", "token")
    assert await count(database) == 2
    clock.advance(1)
    await sessions.open("acc_1", "token")
    assert await count(database) == 2
