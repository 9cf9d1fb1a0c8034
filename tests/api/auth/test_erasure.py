"""Erasing an account: nothing of a person is left in any table, and nobody else's is touched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from api.auth import erasure
from api.auth.authenticator import LOCAL_ACCOUNT
from api.auth.erasure import ACCOUNT_SWEEP, SWEEP_AFTER, Eraser
from api.storage.errors import KeyMissingError
from api.storage.vault import Vault
from api.store.database import Database
from api.store.schema import accounts, generations, outbox, tracks
from tests.api.auth.calls import EMAIL, LOOPBACK, PASSWORD, PROFILE, bearer, client, code, make_key, register
from tests.api.auth.conftest import Connect, ManualClock, Platform
from tests.api.auth.owned import everything, fill, owned_tables
from tests.api.limits.rows import add_account, add_generation

ACCOUNT = "/api/v1/account"
MARK = "zelda"  # no hexadecimal digits: ids must not hold it by chance
KEPT = {"accounts", "usage_windows", "generations", "tracks"}


@pytest.fixture
def eraser(database: Database, clock: ManualClock) -> Eraser:
    return Eraser(database, clock)


def _said(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


async def test_nothing_of_a_person_is_left(eraser: Eraser, database: Database) -> None:
    async with database.begin() as conn:
        account_id = await fill(conn, MARK)
    async with database.read() as conn:
        before = await everything(conn, account_id)
    assert all(before[table.name] for table in owned_tables() if "account_id" in table.c), "a row in every table"

    await eraser.erase(account_id)

    async with database.read() as conn:
        after = await everything(conn)
    for table, rows in after.items():
        if table != "outbox":  # names the objects that are still to be removed
            assert not [row for row in rows if any(MARK in _said(value) for value in row.values())], table
        if table not in KEPT | {"outbox"}:
            assert rows == [], table


async def test_what_accounting_needs_stays(eraser: Eraser, database: Database, clock: ManualClock) -> None:
    async with database.begin() as conn:
        account_id = await fill(conn, MARK)
    async with database.read() as conn:
        before = await everything(conn, account_id)
    await eraser.erase(account_id)
    async with database.read() as conn:
        after = await everything(conn, account_id)
    (account,) = after["accounts"]
    assert (account["status"], account["email"], account["name"]) == ("erased", None, "")
    assert account["erased_at"] == clock()
    assert account["tier"] == before["accounts"][0]["tier"]
    assert after["usage_windows"] == before["usage_windows"]
    for table, columns in {
        "generations": ("id", "tier", "model_id", "duration_s", "num_tracks", "cost_steps", "created_at", "state"),
        "tracks": ("id", "generation_id", "total_samples", "sample_rate", "created_at", "state"),
    }.items():
        assert [[row[name] for name in columns] for row in after[table]] == [
            [row[name] for name in columns] for row in before[table]
        ]


async def test_stored_audio_is_unreadable_at_once_and_then_removed(
    eraser: Eraser, database: Database, clock: ManualClock
) -> None:
    async with database.begin() as conn:
        account_id = await fill(conn, MARK)
        await conn.execute(update(accounts).values(status="active"))
    vault = Vault(database, {"1": b"m" * 32}, clock)
    async with database.begin() as conn:
        await vault.erase(conn, account_id)  # what fill wrote there is no key
    sealed = await vault.seal(None, account_id, b"audio", "track")
    async with database.read() as conn:
        rows = [*(await everything(conn))["tracks"], *(await everything(conn))["uploads"]]
    await eraser.erase(account_id)
    with pytest.raises(KeyMissingError):
        await vault.unseal(None, account_id, sealed, "track")
    with pytest.raises(KeyMissingError):
        await vault.seal(None, account_id, b"more", "track")
    async with database.read() as conn:
        removals = await conn.execute(select(outbox.c.payload).where(outbox.c.kind == "object.delete"))
        assert {payload["object_key"] for (payload,) in removals} == {row["object_key"] for row in rows}


async def test_nobody_elses_is_touched(eraser: Eraser, database: Database) -> None:
    async with database.begin() as conn:
        account_id, other_id = await fill(conn, MARK), await fill(conn, "bob", rows=2)
    async with database.read() as conn:
        before = await everything(conn, other_id)
    await eraser.erase(account_id)
    async with database.read() as conn:
        assert await everything(conn, other_id) == before
        assert (await everything(conn))["webhook_attempts"], "of the other's deliveries"


async def test_what_is_queued_or_running_is_cancelled(eraser: Eraser, database: Database) -> None:
    await add_account(database)
    async with database.begin() as conn:
        queued = await add_generation(conn, prompt=MARK)
        running = await add_generation(conn, prompt=MARK, state="running", lease_owner="wrk_1", attempt=1)
        done = await add_generation(conn, prompt=MARK, state="succeeded")
    await eraser.erase("acc_1")
    async with database.read() as conn:
        rows = (await conn.execute(select(generations))).mappings().all()
    assert {row["id"]: row["state"] for row in rows} == {
        queued: "cancelled",
        running: "cancelling",
        done: "succeeded",
    }
    assert {row["lease_owner"] for row in rows if row["id"] == running} == {"wrk_1"}, "its worker is told as always"


async def test_a_generation_that_was_accepted_meanwhile_is_swept(
    eraser: Eraser, database: Database, clock: ManualClock
) -> None:
    await add_account(database)
    await eraser.erase("acc_1")
    async with database.begin() as conn:
        late = await add_generation(conn, prompt=MARK, webhook_url="https://ada.example")
        entry = (await conn.execute(select(outbox).where(outbox.c.kind == ACCOUNT_SWEEP))).mappings().one()
    assert entry["available_at"] == clock() + SWEEP_AFTER
    await eraser.handle(entry["payload"])
    async with database.read() as conn:
        row = (await conn.execute(select(generations).where(generations.c.id == late))).mappings().one()
    assert (row["state"], row["prompt"], row["webhook_url"]) == ("cancelled", "", None)


async def test_a_sweep_touches_no_account_that_lives(eraser: Eraser, database: Database) -> None:
    async with database.begin() as conn:
        account_id = await fill(conn, MARK)
    async with database.read() as conn:
        before = await everything(conn)
    await eraser.sweep(account_id)
    await eraser.sweep("acc_of_nobody")
    async with database.read() as conn:
        assert await everything(conn) == before


async def test_a_crash_after_the_first_transaction_is_made_good(
    eraser: Eraser, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database.begin() as conn:
        account_id = await fill(conn, MARK)

    async def crash(account_id: str) -> None:
        raise RuntimeError("the process died")

    with monkeypatch.context() as crashing:
        crashing.setattr(eraser, "sweep", crash)
        with pytest.raises(RuntimeError):
            await eraser.erase(account_id)
    async with database.read() as conn:
        found = await everything(conn)
    assert found["data_keys"] == found["api_keys"] == found["refresh_tokens"] == [], "nothing usable is left"
    (entry,) = [row for row in found["outbox"] if row["kind"] == ACCOUNT_SWEEP]
    await eraser.handle(entry["payload"])
    async with database.read() as conn:
        assert [row["prompt"] for row in (await everything(conn))["tracks"]] == [""]


async def test_a_large_account_goes_in_small_transactions(
    eraser: Eraser, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "BATCH", 2)
    async with database.begin() as conn:
        account_id = await fill(conn, MARK, rows=5)
    await eraser.erase(account_id)
    async with database.read() as conn:
        assert [*await conn.scalars(select(tracks.c.prompt))] == [""] * 5
        removals = await conn.scalars(select(outbox.c.payload).where(outbox.c.kind == "object.delete"))
        assert len({payload["object_key"] for payload in removals}) == 10


async def test_erasing_twice_at_once_does_no_harm(eraser: Eraser, database: Database) -> None:
    async with database.begin() as conn:
        account_id = await fill(conn, MARK)
    await asyncio.gather(*(eraser.erase(account_id) for _ in range(3)))
    async with database.read() as conn:
        kinds = [*await conn.scalars(select(outbox.c.kind))]
    assert kinds.count(ACCOUNT_SWEEP) == 1


# --------------------------------------------------------------------------------------------- over HTTP
async def test_every_credential_ends_with_the_account(connect: Connect, clock: ManualClock) -> None:
    async with connect() as http:
        grant = await register(http)
        key = (await make_key(http, grant["access_token"]))["key"]
        proof = bearer(grant["access_token"])
        answer = await http.delete(ACCOUNT, params={"confirm": grant["account_id"]}, headers=proof)
        assert (answer.status_code, answer.content) == (204, b"")
        assert code(await http.get(PROFILE, headers=proof)) == "credentials_revoked"
        assert code(await http.get(PROFILE, headers=bearer(key))) == "invalid_credentials"
        refresh = await http.post("/api/v1/auth/refresh", json={"refresh_token": grant["refresh_token"]})
        assert code(refresh) == "invalid_credentials"
        login = await http.post("/api/v1/auth/login", json={"email": EMAIL, "password": PASSWORD})
        assert code(login) == "invalid_credentials"
        again = await register(http)
        assert again["account_id"] != grant["account_id"], "the email is free for a new one"


async def test_it_must_be_confirmed(connect: Connect) -> None:
    async with connect() as http:
        proof = bearer((await register(http))["access_token"])
        other = (await register(http, "bob@example.com"))["account_id"]
        for query in ({}, {"confirm": ""}, {"confirm": "yes"}, {"confirm": other}):
            answer = await http.delete(ACCOUNT, params=query, headers=proof)
            assert (answer.status_code, code(answer)) == (422, "invalid_parameter")
            assert answer.json()["error"]["param"] == "confirm"
        assert (await http.get(PROFILE, headers=proof)).status_code == 200


async def test_a_key_needs_the_scope_for_it(connect: Connect) -> None:
    async with connect() as http:
        grant = await register(http)
        key = (await make_key(http, grant["access_token"], scopes=["account:read"]))["key"]
        answer = await http.delete(ACCOUNT, params={"confirm": grant["account_id"]}, headers=bearer(key))
        assert (answer.status_code, code(answer)) == (403, "permission_denied")


async def test_the_local_account_comes_back_empty(
    make_platform: Callable[..., Platform], database: Database, clock: ManualClock
) -> None:
    platform = make_platform()
    async with client(platform, base="http://localhost:8000", address=LOOPBACK) as http:
        await http.get(PROFILE)
        async with database.begin() as conn:
            await fill(conn, MARK, account_id=LOCAL_ACCOUNT)
        assert (await http.delete(ACCOUNT, params={"confirm": LOCAL_ACCOUNT})).status_code == 204
        clock.advance(SWEEP_AFTER / timedelta(seconds=1))
        profile = (await http.get(PROFILE)).json()
        assert (profile["id"], profile["tier"]) == (LOCAL_ACCOUNT, "enterprise")
        async with database.read() as conn:
            assert (await everything(conn, LOCAL_ACCOUNT))["api_keys"] == []
        made = await http.post("/api/v1/user/api-keys", json={"name": "after"})
        await platform.accounts.eraser.handle({"account_id": LOCAL_ACCOUNT})
        assert (await http.get(PROFILE, headers=bearer(made.json()["key"]))).status_code == 200
