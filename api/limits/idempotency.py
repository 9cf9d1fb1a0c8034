"""``Idempotency-Key``: the same call sent twice is done once.

The key's row is written in the transaction that does the work and that also stores the answer. So a call that fails is
rolled back together with its key: refusals and errors are never stored, and the next attempt starts afresh.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import RETRY_SOON_S, ApiError, ErrorCode
from api.limits.sql import insert
from api.store.schema import idempotency_keys as table

HEADER = "Idempotency-Key"
REPLAYED = {"Idempotent-Replayed": "true"}
"""Headers of a replayed response."""
KEPT = timedelta(hours=24)
MAX_KEY_CHARACTERS = 255

_NEVER_STORED = frozenset({401, 429})


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """What the first call answered.

    Attributes:
        resource_id: what it created.
    """

    status: int
    body: Any
    resource_id: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """A key that is this transaction's own, or the answer it already has.

    Attributes:
        replay: send this, with the headers ``REPLAYED``, and do nothing; None: do the work, then ``complete``.
    """

    account_id: str
    key: str
    replay: StoredResponse | None


def validate_key(key: str | None) -> str | None:
    """The header's value, if it is there.

    Raises:
        ApiError: invalid_parameter: not 1 to 255 visible ASCII characters.
    """
    if key is None:
        return None
    if 1 <= len(key) <= MAX_KEY_CHARACTERS and all("!" <= character <= "~" for character in key):
        return key
    message = f"{HEADER} must be 1 to {MAX_KEY_CHARACTERS} visible ASCII characters without spaces: send a UUID"
    raise ApiError(ErrorCode.INVALID_PARAMETER, message, param=HEADER)


def request_hash(method: str, route: str, payload: Any) -> str:
    """SHA-256, in hex, of what was asked: the order of an object's members does not count.

    Args:
        payload: JSON values; dump a validated request, so that a default left out equals one that was spelt out.

    Raises:
        ValueError: NaN or an infinity, which are not JSON.
    """
    text = json.dumps([method.upper(), route, payload], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


async def claim(conn: AsyncConnection, account_id: str, key: str, request_hash: str, now: datetime) -> Claim:
    """Make the key this transaction's own. Of two at the same time, the second waits for the first to end.

    Raises:
        ApiError: idempotency_key_reused: the key came before with another request;
            idempotency_in_flight: the first call has not answered yet.
    """
    expires_at = now + KEPT
    fresh = {"request_hash": request_hash, "created_at": now, "expires_at": expires_at}
    emptied = {"resource_id": None, "response_status": None, "response_body": None}
    statement = (
        insert(conn, table)
        .values(account_id=account_id, key=key, **fresh)
        # An expired key is as good as none.
        .on_conflict_do_update(
            index_elements=[table.c.account_id, table.c.key],
            set_={**fresh, **emptied},
            where=table.c.expires_at <= now,
        )
    )
    if (await conn.execute(statement)).rowcount == 1:
        return Claim(account_id, key, None)
    row = (await conn.execute(select(table).where(_is(account_id, key)))).one()
    if row.request_hash != request_hash:
        raise ApiError(ErrorCode.IDEMPOTENCY_KEY_REUSED, param=HEADER)
    if row.response_status is None:
        raise ApiError(ErrorCode.IDEMPOTENCY_IN_FLIGHT, param=HEADER, retry_after_s=RETRY_SOON_S)
    return Claim(account_id, key, StoredResponse(row.response_status, row.response_body, row.resource_id))


async def complete(
    conn: AsyncConnection, claimed: Claim, *, status: int, body: Any, resource_id: str | None = None
) -> None:
    """Store the answer, in the transaction of the work.

    Raises:
        ValueError: an answer that must not be replayed: 401, 429 and 5xx. Raise an error and roll back instead.
    """
    if status in _NEVER_STORED or status >= 500:
        raise ValueError(f"a response {status} is never stored under an idempotency key: roll the transaction back")
    values = {"response_status": status, "response_body": body, "resource_id": resource_id}
    await conn.execute(update(table).where(_is(claimed.account_id, claimed.key)).values(**values))


async def purge(conn: AsyncConnection, now: datetime) -> int:
    """Remove expired keys; says how many."""
    return (await conn.execute(delete(table).where(table.c.expires_at <= now))).rowcount


def _is(account_id: str, key: str) -> Any:
    return and_(table.c.account_id == account_id, table.c.key == key)
