"""The endpoints of an account: where its events go."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, and_, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from api.clock import Clock
from api.errors import ApiError, ErrorCode
from api.ids import new_id
from api.limits import idempotency
from api.limits.sql import insert
from api.storage.vault import Vault
from api.store.database import Database
from api.store.schema import accounts
from api.store.schema import webhook_deliveries as deliveries
from api.store.schema import webhook_endpoints as table
from api.webhooks.guard import Guard
from api.webhooks.keyring import Keyring, overlap_until
from api.webhooks.targets import UrlRefusedError

MAX_ENDPOINTS: Final = 20
_ID: Final = re.compile(r"[a-z]{3}_[0-9a-f]{24}")
# A name server that hangs shall not hold up whoever registers an address; each attempt asks it again.
CHECK_TIMEOUT_S: Final = 5.0


class Endpoints:
    """Create, read, change and delete endpoints. What belongs to another account is not found."""

    def __init__(self, db: Database, vault: Vault, keyring: Keyring, guard: Guard, clock: Clock) -> None:
        self._db = db
        self._vault = vault
        self._keyring = keyring
        self._guard = guard
        self._clock = clock

    async def check_url(self, url: str, param: str = "url") -> str:
        """The URL in its normal form, if webhooks may be sent there; see ``Guard.check``.

        Raises:
            ApiError: webhook_url_refused.
        """
        try:
            return await self._guard.check(url, CHECK_TIMEOUT_S)
        except UrlRefusedError as refused:
            raise ApiError(ErrorCode.WEBHOOK_URL_REFUSED, f"{param} {refused}", param=param) from None

    async def create(
        self, account_id: str, url: str, events: Sequence[str], description: str, idempotency_key: str | None = None
    ) -> tuple[dict[str, Any], bool]:
        """A new endpoint with its secret, as the API shows it, and whether this is a replay of an earlier call.

        Raises:
            ApiError: webhook_url_refused; webhook_conflict: the account has an endpoint of that URL; limit_reached;
                those of ``idempotency.claim``.
        """
        url = await self.check_url(url)
        wanted = {"url": url, "events": list(events), "description": description}
        async with self._db.begin() as conn:
            claimed = await self._claim(conn, account_id, idempotency_key, wanted)
            if claimed is not None and claimed.replay is not None:
                return await self._replay(conn, claimed, claimed.replay), True
            await _refuse_if_full(conn, account_id)
            created = await self._insert(conn, account_id, wanted)
            if claimed is not None:
                sealed = await self._vault.seal(conn, account_id, json.dumps(created).encode(), _context(claimed.key))
                await idempotency.complete(
                    conn, claimed, status=201, body={"sealed": sealed.hex()}, resource_id=created["id"]
                )
        return created, False

    async def list(self, account_id: str) -> list[dict[str, Any]]:
        """Every endpoint of the account, the oldest first."""
        mine = select(table).where(table.c.account_id == account_id).order_by(table.c.created_at, table.c.id)
        async with self._db.read() as conn:
            return [self._view(row) for row in await conn.execute(mine)]

    async def get(self, account_id: str, endpoint_id: str) -> dict[str, Any]:
        """
        Raises:
            ApiError: webhook_not_found.
        """
        async with self._db.read() as conn:
            return self._view(await find(conn, account_id, endpoint_id))

    async def update(self, account_id: str, endpoint_id: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change what is given: url, events, description, enabled.

        Pending deliveries follow a new URL. Switching an endpoint off ends them; switching it on starts its record of
        failures anew.

        Raises:
            ApiError: webhook_not_found, webhook_url_refused, webhook_conflict.
        """
        values = dict(changes)
        if "url" in values:
            values["url"] = await self.check_url(values["url"])
        if values.get("enabled") is True:
            values |= {"disabled_reason": None, "failing_since": None}
        try:
            async with self._db.begin() as conn:
                row = await find(conn, account_id, endpoint_id, lock=True)
                if values:
                    await conn.execute(update(table).where(table.c.id == row.id).values(**values))
                if values.get("enabled") is False:
                    await end_pending(conn, deliveries.c.endpoint_id == row.id, self._clock())
                if values.get("url", row.url) != row.url:
                    await _move_pending(conn, row.id, values["url"], self._clock())
                return self._view(await find(conn, account_id, endpoint_id))
        except IntegrityError as error:
            raise _taken() from error

    async def delete(self, account_id: str, endpoint_id: str) -> None:
        """Remove it, its deliveries and its secret.

        Raises:
            ApiError: webhook_not_found.
        """
        async with self._db.begin() as conn:
            await find(conn, account_id, endpoint_id, lock=True)
            await conn.execute(delete(table).where(table.c.id == endpoint_id))

    async def rotate(self, account_id: str, endpoint_id: str) -> dict[str, Any]:
        """A new secret, shown this once; the one before signs beside it for 24 hours.

        Raises:
            ApiError: webhook_not_found.
        """
        async with self._db.begin() as conn:
            await find(conn, account_id, endpoint_id, lock=True)
            secret = await self._keyring.rotate_endpoint(conn, account_id, endpoint_id)
            return {**self._view(await find(conn, account_id, endpoint_id)), "secret": secret}

    async def signing_secret(self, account_id: str, *, rotate: bool = False) -> dict[str, Any]:
        """What signs deliveries to the webhook_url of the account's generations; made when first asked for."""
        async with self._db.begin() as conn:
            if rotate:
                await self._keyring.rotate_account(conn, account_id)
            secret, row = await self._keyring.account_secret(conn, account_id)
        until = overlap_until(row, self._clock())
        return {"secret": secret, "previous_secret_until": until, "created_at": row.created_at}

    async def _insert(self, conn: AsyncConnection, account_id: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        endpoint_id = new_id("whe")
        secret, sealed = await self._keyring.mint(conn, account_id, endpoint_id)
        values = {"id": endpoint_id, "account_id": account_id, "secret": sealed, "created_at": self._clock(), **wanted}
        # No exception, which would break the transaction: the idempotency key must not be lost with it.
        inserted = await conn.execute(insert(conn, table).values(values).on_conflict_do_nothing())
        if inserted.rowcount != 1:
            raise _taken()
        view = self._view(await find(conn, account_id, endpoint_id))
        return {**view, "created_at": view["created_at"].isoformat(), "secret": secret}

    async def _claim(
        self, conn: AsyncConnection, account_id: str, key: str | None, wanted: Mapping[str, Any]
    ) -> idempotency.Claim | None:
        if key is None:
            return None
        hashed = idempotency.request_hash("POST", "/api/v1/webhooks", wanted)
        return await idempotency.claim(conn, account_id, key, hashed, self._clock())

    async def _replay(
        self, conn: AsyncConnection, claimed: idempotency.Claim, stored: idempotency.StoredResponse
    ) -> dict[str, Any]:
        """The first answer, secret and all: whoever lost it could not verify anything."""
        sealed = bytes.fromhex(stored.body["sealed"])
        opened = await self._vault.unseal(conn, claimed.account_id, sealed, _context(claimed.key))
        answer: dict[str, Any] = json.loads(opened)
        return answer

    def _view(self, row: Row[Any]) -> dict[str, Any]:
        shown = ("id", "url", "description", "events", "enabled", "disabled_reason", "failing_since", "created_at")
        until = overlap_until(row, self._clock())
        return {**{name: row._mapping[name] for name in shown}, "previous_secret_until": until}


async def find(conn: AsyncConnection, account_id: str, endpoint_id: str, *, lock: bool = False) -> Row[Any]:
    """The account's endpoint.

    Args:
        lock: until the transaction ends. Whoever writes to an endpoint and to its deliveries locks the endpoint first.

    Raises:
        ApiError: webhook_not_found.
    """
    wanted = select(table).where(table.c.id == endpoint_id, table.c.account_id == account_id)
    statement = wanted.with_for_update() if lock else wanted
    row = (await conn.execute(statement)).one_or_none() if is_id(endpoint_id) else None
    if row is None:
        raise ApiError(ErrorCode.WEBHOOK_NOT_FOUND)
    return row


def is_id(text: str) -> bool:
    """Whether it could name anything: PostgreSQL would not even look for text with a NUL in it."""
    return _ID.fullmatch(text) is not None


async def end_pending(conn: AsyncConnection, which: ColumnElement[bool], now: datetime) -> None:
    """Deliveries that will not be sent any more. Those being sent at this moment end with their own outcome."""
    await conn.execute(
        update(deliveries)
        .where(which, deliveries.c.state == "pending", at_rest(now))
        .values(state="failed", next_attempt_at=None, lease_owner=None, lease_expires_at=None, finished_at=now)
    )


def at_rest(now: datetime) -> ColumnElement[bool]:
    """Nobody is sending it."""
    return or_(deliveries.c.lease_expires_at.is_(None), deliveries.c.lease_expires_at <= now)


async def _move_pending(conn: AsyncConnection, endpoint_id: str, url: str, now: datetime) -> None:
    """Pending deliveries go to the endpoint's new address, but for events that address was already sent."""
    other = deliveries.alias()
    sent = select(other.c.id).where(other.c.event_id == deliveries.c.event_id, other.c.url == url).exists()
    mine = and_(deliveries.c.endpoint_id == endpoint_id, deliveries.c.state == "pending")
    await conn.execute(update(deliveries).where(mine, ~sent).values(url=url))
    await end_pending(conn, and_(mine, deliveries.c.url != url), now)


async def _refuse_if_full(conn: AsyncConnection, account_id: str) -> None:
    # Locked, so that two calls at once do not both find the last place free.
    await conn.execute(select(accounts.c.id).where(accounts.c.id == account_id).with_for_update())
    mine = select(func.count()).select_from(table).where(table.c.account_id == account_id)
    if (await conn.execute(mine)).scalar_one() >= MAX_ENDPOINTS:
        raise ApiError(
            ErrorCode.LIMIT_REACHED, f"an account has at most {MAX_ENDPOINTS} webhooks: delete one that is not used"
        )


def _taken() -> ApiError:
    message = "this account has a webhook of that url: change the events of that one, or give another url"
    return ApiError(ErrorCode.WEBHOOK_CONFLICT, message, param="url")


def _context(key: str) -> str:
    return f"webhook created under idempotency key {key}"
