"""The accounts themselves: made, found, changed."""

from __future__ import annotations

import unicodedata
from typing import Any, Literal

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import sessions
from api.auth.identity import Account, find_account, lock_account
from api.auth.passwords import Passwords
from api.auth.principal import Role
from api.clock import Clock
from api.errors import ApiError, ErrorCode
from api.ids import new_id
from api.limits.sql import insert
from api.store.database import Database
from api.store.schema import accounts

MAX_EMAIL_CHARACTERS = 254  # RFC 5321, 4.5.3.1.3, less the angle brackets
_COLUMNS = [accounts.c[name] for name in Account.__slots__]


def normal_email(text: str) -> str:
    """The form in which emails are stored and compared.

    Raises:
        ValueError: it is none. Whether it exists is not asked.
    """
    email = unicodedata.normalize("NFC", text.strip()).lower()
    before, _, after = email.rpartition("@")
    unwritable = any(unicodedata.category(character)[0] in "CZ" for character in email)
    if len(email) > MAX_EMAIL_CHARACTERS or unwritable or "@" in before or not (before and after):
        raise ValueError("is no email address: it needs one @ with something before and after it, and no spaces")
    return email


class Directory:
    """
    Args:
        new_tier: of accounts that are made without one.
    """

    def __init__(self, db: Database, passwords: Passwords, clock: Clock, new_tier: str) -> None:
        self._db = db
        self._passwords = passwords
        self._clock = clock
        self._new_tier = new_tier

    async def create(
        self, email: str, password: str | None, name: str = "", *, role: Role = Role.USER, tier: str | None = None
    ) -> Account:
        """
        Args:
            email: in its normal form.
            password: None: no login by password, API keys only.

        Raises:
            ApiError: email_taken.
        """
        row: dict[str, Any] = {
            "id": new_id("acc"),
            "email": email,
            "name": name,
            "role": role,
            "tier": tier or self._new_tier,
            "status": "active",
            "created_at": self._clock(),
        }
        password_hash = await self._passwords.hash(password) if password is not None else None
        async with self._db.begin() as conn:
            new = insert(conn, accounts).values(**row, password_hash=password_hash)
            done = await conn.execute(new.on_conflict_do_nothing(index_elements=["email"]))
            if done.rowcount == 0:
                raise ApiError(ErrorCode.EMAIL_TAKEN, param="email")
        return Account(**row)

    async def verified(self, email: str, password: str) -> Account | None:
        """The account, if the password is its own; as slow for an account that does not exist.

        Raises:
            ApiError: system_overloaded.
        """
        async with self._db.read() as conn:
            wanted = select(*_COLUMNS, accounts.c.password_hash).where(accounts.c.email == email)
            row = (await conn.execute(wanted)).mappings().first()
        stored: str | None = row["password_hash"] if row is not None else None
        if not await self._passwords.verify(stored, password):
            return None
        assert row is not None, "without a row nothing verifies"
        assert stored is not None, "nor without a hash"
        if self._passwords.outdated(stored):
            await self._set(row["id"], password_hash=await self._passwords.hash(password))
        return Account.of(row)

    async def by_email(self, email: str) -> Account | None:
        async with self._db.read() as conn:
            row = (await conn.execute(select(*_COLUMNS).where(accounts.c.email == email))).mappings().first()
        return Account.of(row) if row is not None else None

    async def by_id(self, account_id: str) -> Account | None:
        async with self._db.read() as conn:
            return await find_account(conn, account_id)

    async def newest(self, limit: int) -> list[Account]:
        wanted = select(*_COLUMNS).order_by(accounts.c.created_at.desc(), accounts.c.id).limit(limit)
        async with self._db.read() as conn:
            return [Account.of(row) for row in (await conn.execute(wanted)).mappings()]

    async def set_tier(self, account_id: str, tier: str) -> None:
        await self._set(account_id, tier=tier)

    async def set_role(self, account_id: str, role: Role) -> None:
        await self._set(account_id, role=role.value)

    async def set_status(self, account_id: str, status: Literal["active", "suspended"]) -> None:
        """Suspended accounts keep everything and may do nothing; their sessions end, their keys only rest."""
        async with self._db.begin() as conn:
            await lock_account(conn, account_id)
            await self._update(conn, account_id, status=status)
            if status == "suspended":
                await sessions.end_all(conn, account_id, self._clock())

    async def set_password(self, account_id: str, password: str) -> None:
        """Every session ends: whoever knew the old password is out."""
        password_hash = await self._passwords.hash(password)
        async with self._db.begin() as conn:
            await lock_account(conn, account_id)
            await self._update(conn, account_id, password_hash=password_hash)
            await sessions.end_all(conn, account_id, self._clock())

    async def _set(self, account_id: str, **values: Any) -> None:
        async with self._db.begin() as conn:
            await self._update(conn, account_id, **values)

    async def _update(self, conn: AsyncConnection, account_id: str, **values: Any) -> None:
        mine = (accounts.c.id == account_id, accounts.c.status != "erased")
        await conn.execute(update(accounts).where(*mine).values(**values))
