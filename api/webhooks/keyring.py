"""The secrets that sign: one per endpoint, and one per account for the webhook_url of single generations.

They are stored sealed with the account's key. An account's secret is stored like an endpoint's and not derived from
the server's own key: replacing that key must not change every customer's secret.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.clock import Clock
from api.limits.sql import insert
from api.storage.vault import Vault
from api.store.schema import webhook_endpoints, webhook_signing_secrets
from api.webhooks.signing import ROTATION_OVERLAP, new_secret


class Keyring:
    """Makes, rotates and opens signing secrets."""

    def __init__(self, vault: Vault, clock: Clock) -> None:
        self._vault = vault
        self._clock = clock

    async def mint(self, conn: AsyncConnection, account_id: str, endpoint_id: str | None) -> tuple[str, bytes]:
        """A new secret, and as it is stored.

        Args:
            conn: a write transaction.
            endpoint_id: whose it is; None: the account's own.
        """
        secret = new_secret()
        return secret, await self._vault.seal(conn, account_id, secret.encode(), _context(endpoint_id))

    async def rotate_endpoint(self, conn: AsyncConnection, account_id: str, endpoint_id: str) -> str | None:
        """A new secret; the one before goes on signing beside it for 24 hours. None: there is no such endpoint."""
        table = webhook_endpoints
        mine = (table.c.id == endpoint_id) & (table.c.account_id == account_id)
        return await self._rotate(conn, table, mine, account_id, endpoint_id)

    async def rotate_account(self, conn: AsyncConnection, account_id: str) -> str:
        """The same for the account's own secret, which is made if there is none."""
        await self._make_account_secret(conn, account_id)
        table = webhook_signing_secrets
        secret = await self._rotate(conn, table, table.c.account_id == account_id, account_id, None)
        assert secret is not None
        return secret

    async def account_secret(self, conn: AsyncConnection, account_id: str) -> tuple[str, Row[Any]]:
        """The account's own secret and its row; made if there is none. Needs a write transaction."""
        await self._make_account_secret(conn, account_id)
        row = (await conn.execute(_account_row(account_id))).one()
        return await self._open(conn, account_id, None, row.secret), row

    async def signing(self, conn: AsyncConnection, account_id: str, endpoint_id: str | None) -> list[str]:
        """What signs at this moment, the newest first. Empty: there is no such endpoint or secret."""
        if endpoint_id is None:
            wanted = _account_row(account_id)
        else:
            wanted = select(webhook_endpoints).where(webhook_endpoints.c.id == endpoint_id)
        row = (await conn.execute(wanted)).one_or_none()
        if row is None:
            return []
        sealed = [row.secret]
        if row.previous_secret is not None and row.previous_expires_at > self._clock():
            sealed.append(row.previous_secret)
        return [await self._open(conn, account_id, endpoint_id, secret) for secret in sealed]

    async def _make_account_secret(self, conn: AsyncConnection, account_id: str) -> None:
        if (await conn.execute(_account_row(account_id))).one_or_none() is not None:
            return
        _, sealed = await self.mint(conn, account_id, None)
        values = {"account_id": account_id, "secret": sealed, "created_at": self._clock()}
        # Somebody else may be making it at this moment: then theirs counts.
        await conn.execute(insert(conn, webhook_signing_secrets).values(values).on_conflict_do_nothing())

    async def _rotate(
        self, conn: AsyncConnection, table: Table, mine: ColumnElement[bool], account_id: str, endpoint_id: str | None
    ) -> str | None:
        secret, sealed = await self.mint(conn, account_id, endpoint_id)
        changed = await conn.execute(
            update(table)
            .where(mine)
            .values(previous_secret=table.c.secret, previous_expires_at=self._clock() + ROTATION_OVERLAP, secret=sealed)
        )
        return secret if changed.rowcount == 1 else None

    async def _open(self, conn: AsyncConnection, account_id: str, endpoint_id: str | None, sealed: bytes) -> str:
        return (await self._vault.unseal(conn, account_id, sealed, _context(endpoint_id))).decode()


def overlap_until(row: Row[Any], now: datetime) -> datetime | None:
    """Until when the secret before the present one also signs."""
    until: datetime | None = row.previous_expires_at
    return until if until is not None and until > now else None


def _account_row(account_id: str) -> Any:
    return select(webhook_signing_secrets).where(webhook_signing_secrets.c.account_id == account_id)


def _context(endpoint_id: str | None) -> str:
    return f"webhook endpoint {endpoint_id}" if endpoint_id else "webhook account secret"
