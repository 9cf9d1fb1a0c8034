"""Keys: made once however many ask, rotated while they are read, gone when erased; on both databases."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import delete, func, select, update

from api.clock import utc_now
from api.ids import new_id
from api.storage.errors import KeyMissingError, SealBrokenError
from api.storage.vault import DataKey, Vault
from api.store.database import Database
from api.store.schema import accounts, data_keys
from tests.api.storage.conftest import MASTER, NewAccount

NEWER = {"m2": bytes(32), **MASTER}


async def test_a_secret_opens_only_as_what_it_was_sealed(vault: Vault, new_account: NewAccount) -> None:
    account, other = await new_account(), await new_account()
    box = await vault.seal(None, account, b"whsec", "webhook_endpoints.secret:whe_1")
    assert b"whsec" not in box
    assert await vault.unseal(None, account, box, "webhook_endpoints.secret:whe_1") == b"whsec"
    await vault.newest(other)
    for who, context in ((account, "webhook_endpoints.secret:whe_2"), (other, "webhook_endpoints.secret:whe_1")):
        with pytest.raises(SealBrokenError):
            await vault.unseal(None, who, box, context)


async def test_an_altered_secret_is_noticed(vault: Vault, new_account: NewAccount) -> None:
    account = await new_account()
    box = bytearray(await vault.seal(None, account, b"whsec", "x"))
    box[-1] ^= 1
    for broken in (bytes(box), bytes(box[:19]), b"", b"something else entirely"):
        with pytest.raises(SealBrokenError):
            await vault.unseal(None, account, broken, "x")


async def test_sealing_within_a_transaction_is_part_of_it(
    database: Database, vault: Vault, new_account: NewAccount
) -> None:
    account = await new_account()
    async with database.begin() as conn:
        box = await vault.seal(conn, account, b"1", "x")
        assert await vault.unseal(conn, account, box, "x") == b"1"
    with pytest.raises(RuntimeError, match="on purpose"):
        await seal_and_fail(database, vault, await new_account())
    async with database.read() as conn:
        assert (await conn.execute(select(func.count()).select_from(data_keys))).scalar_one() == 1


async def seal_and_fail(database: Database, vault: Vault, account: str) -> None:
    async with database.begin() as conn:
        await vault.seal(conn, account, b"1", "x")
        raise RuntimeError("on purpose")


async def test_many_at_once_get_the_same_first_key(database: Database, new_account: NewAccount) -> None:
    account = await new_account()
    vaults = [Vault(database, MASTER, utc_now) for _ in range(8)]
    keys = await asyncio.gather(*(vault.newest(account) for vault in vaults))
    assert len({(key.version, key.key) for key in keys}) == 1


async def test_a_new_version_is_for_new_data(vault: Vault, new_account: NewAccount) -> None:
    account = await new_account()
    old = await vault.seal(None, account, b"old", "x")
    versions = await asyncio.gather(*(vault.rotate_account(account) for _ in range(3)))
    newest = await vault.newest(account)
    assert newest.version == max(versions) >= 2
    assert await vault.unseal(None, account, old, "x") == b"old"
    assert await vault.unseal(None, account, await vault.seal(None, account, b"new", "x"), "x") == b"new"


async def test_master_rotation_changes_no_data_and_stops_no_reader(
    database: Database, vault: Vault, new_account: NewAccount
) -> None:
    owners = [await new_account() for _ in range(5)]
    boxes = {owner: await vault.seal(None, owner, owner.encode(), "x") for owner in owners}
    newer = Vault(database, NEWER, utc_now)
    done = asyncio.create_task(newer.rotate_master())
    while not done.done():
        for owner, box in boxes.items():
            assert await newer.unseal(None, owner, box, "x") == owner.encode()
    assert done.result() == len(owners)
    assert await newer.rotate_master() == 0
    alone = Vault(database, {"m2": NEWER["m2"]}, utc_now)
    for owner, box in boxes.items():
        assert await alone.unseal(None, owner, box, "x") == owner.encode()
    with pytest.raises(KeyMissingError, match=r"m2.*TUTTI_MASTER_KEYS"):
        await vault.newest(owners[0])


async def test_another_master_key_under_the_same_name_is_noticed(
    database: Database, vault: Vault, new_account: NewAccount
) -> None:
    account = await new_account()
    await vault.newest(account)
    with pytest.raises(KeyMissingError, match="does not open"):
        await Vault(database, {"m1": bytes(32)}, utc_now).newest(account)


async def test_a_data_key_belongs_to_its_account(database: Database, vault: Vault, new_account: NewAccount) -> None:
    """A row that is copied to another account by whoever can write to the database opens nothing there."""
    mine, theirs = await new_account(), await new_account()
    await vault.newest(mine)
    await vault.newest(theirs)
    async with database.begin() as conn:
        wrapped = select(data_keys.c.wrapped).where(data_keys.c.account_id == mine).scalar_subquery()
        await conn.execute(update(data_keys).where(data_keys.c.account_id == theirs).values(wrapped=wrapped))
    with pytest.raises(KeyMissingError):
        await vault.newest(theirs)


async def test_erased_means_unreadable_and_stays_so(database: Database, vault: Vault, new_account: NewAccount) -> None:
    account = await new_account()
    box = await vault.seal(None, account, b"secret", "x")
    async with database.begin() as conn:
        await vault.erase(conn, account)
        await conn.execute(update(accounts).where(accounts.c.id == account).values(status="erased"))
    with pytest.raises(KeyMissingError, match="erased"):
        await vault.unseal(None, account, box, "x")
    with pytest.raises(KeyMissingError, match="erased"):
        await vault.seal(None, account, b"late", "x")


async def test_a_new_key_does_not_open_what_the_erased_one_sealed(
    database: Database, vault: Vault, new_account: NewAccount
) -> None:
    account = await new_account()
    box = await vault.seal(None, account, b"secret", "x")
    async with database.begin() as conn:
        await conn.execute(delete(data_keys).where(data_keys.c.account_id == account))
    await vault.newest(account)
    with pytest.raises(SealBrokenError):
        await vault.unseal(None, account, box, "x")


async def test_nobody_gets_a_key_without_an_account(vault: Vault) -> None:
    with pytest.raises(KeyMissingError, match="no such account"):
        await vault.seal(None, new_id("acc"), b"1", "x")


@pytest.mark.parametrize("keys", [{}, {"m1": b"short"}])
def test_master_keys_are_checked(database: Database, keys: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="TUTTI_MASTER_KEYS"):
        Vault(database, keys, utc_now)


def test_keys_are_not_in_what_is_printed() -> None:
    assert "ABCD" not in repr(DataKey(1, b"ABCD" * 8))
