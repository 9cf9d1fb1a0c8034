"""What whoever runs the server may do with its accounts, on the database itself: no gateway need be up.

Gateways notice within ``authenticator.CACHE_S`` seconds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from api.auth.api_keys import ApiKeys
from api.auth.directory import Directory, normal_email
from api.auth.erasure import Eraser
from api.auth.identity import Account
from api.auth.passwords import Passwords
from api.clock import Clock, utc_now
from api.errors import ApiError, ErrorCode
from api.limits.tiers import Tiers
from api.settings import Settings
from api.storage.vault import Vault
from api.store.database import Database, check
from api.store.errors import StoreError


@dataclass(frozen=True, slots=True)
class Administration:
    """The parts of it."""

    directory: Directory
    keys: ApiKeys
    eraser: Eraser
    tiers: Tiers
    vault: Vault
    clock: Clock

    async def account(self, who: str) -> Account:
        """The account of an id or an email.

        Raises:
            ApiError: account_not_found.
        """
        found = await self.directory.by_id(who) if who.startswith("acc_") else None
        if found is None and "@" in who:
            found = await self.directory.by_email(_as_email(who))
        if found is None:
            raise ApiError(
                ErrorCode.ACCOUNT_NOT_FOUND, f"no account has the id or email {who}: see `tutti admin users list`"
            )
        return found

    def known_tier(self, name: str) -> str:
        """
        Raises:
            ApiError: invalid_parameter: no tier of that name.
        """
        if name not in self.tiers:
            told = f"there is no tier {name!r}: the tiers file has {', '.join(self.tiers.names)}"
            raise ApiError(ErrorCode.INVALID_PARAMETER, told, param="tier")
        return name


@asynccontextmanager
async def administration(settings: Settings, clock: Clock = utc_now) -> AsyncIterator[Administration]:
    """
    Raises:
        StoreError: the database does not answer or has another version's schema.
        TiersError: the tiers file cannot be used.
    """
    tiers = Tiers.load(settings.tiers_file)
    db, passwords = Database.connect(settings.database_url), Passwords(threads=1)
    try:
        answer = await check(db)
        if answer is not True:
            raise StoreError(answer)
        directory = Directory(db, passwords, clock, settings.new_account_tier)
        keys = ApiKeys(db, settings.secrets.secret_keys, clock)
        vault = Vault(db, settings.secrets.master_keys, clock)
        yield Administration(directory, keys, Eraser(db, clock), tiers, vault, clock)
    finally:
        passwords.close()
        await db.close()


def _as_email(who: str) -> str:
    try:
        return normal_email(who)
    except ValueError as error:
        raise ApiError(ErrorCode.INVALID_PARAMETER, f"{who} {error}") from None
