"""Accounts as an authenticated request needs them: found by id, and refused if they may not act."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import RowMapping, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth.challenge import refused
from api.auth.principal import Principal, Role
from api.errors import ApiError, ErrorCode
from api.store.schema import accounts


@dataclass(frozen=True, slots=True)
class Identity:
    """What a credential was found to stand for.

    Attributes:
        expires_at: of the credential.
        session_id: of a cookie or an access token.
    """

    principal: Principal
    expires_at: datetime | None = None
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """One row of ``accounts``, without its password."""

    id: str
    email: str | None
    name: str
    role: Role
    tier: str
    status: str
    created_at: datetime

    @classmethod
    def of(cls, row: RowMapping) -> Account:
        fields = {name: row[name] for name in cls.__slots__ if name != "role"}
        return cls(**fields, role=Role(row["role"]))


async def lock_account(conn: AsyncConnection, account_id: str) -> None:
    """One writer at a time for each account's credentials. Always the first lock of a transaction, so that no two wait
    for each other. FOR NO KEY UPDATE lets rows that refer to the account be inserted meanwhile."""
    await conn.execute(select(accounts.c.id).where(accounts.c.id == account_id).with_for_update(key_share=True))


async def find_account(conn: AsyncConnection, account_id: str) -> Account | None:
    columns = [accounts.c[name] for name in Account.__slots__]
    row = (await conn.execute(select(*columns).where(accounts.c.id == account_id))).mappings().first()
    return Account.of(row) if row is not None else None


async def acting_account(conn: AsyncConnection, account_id: str) -> Account:
    """
    Raises:
        ApiError: credentials_revoked when it is gone, account_suspended.
    """
    account = await find_account(conn, account_id)
    if account is None or account.status == "erased":
        raise refused(ErrorCode.CREDENTIALS_REVOKED, "the account of this credential is gone")
    if account.status != "active":
        raise ApiError(ErrorCode.ACCOUNT_SUSPENDED)
    return account
