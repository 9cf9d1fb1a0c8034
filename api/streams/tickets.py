"""One-use tickets: how a browser, which can send no header with a WebSocket, opens one without a key in its URL."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass
from typing import cast

from redis.exceptions import RedisError

from api.auth.principal import Principal, Role, Scope
from api.cache.client import Cache
from api.errors import RETRY_SOON_S, ApiError, ErrorCode

TICKET_TTL_S = 60
_BYTES = 24
_MAX_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a ticket stands for.

    Attributes:
        session_id: of the login with which it was asked for, if it was one.
    """

    principal: Principal
    session_id: str | None = None


class Tickets:
    """In Valkey, by hash: who reads the cache can not use them, and a restart makes them void."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def issue(self, holder: Holder) -> str:
        """A ticket that stands for this holder, once, within ``TICKET_TTL_S`` seconds.

        Raises:
            ApiError: not_ready: Valkey does not answer.
        """
        ticket = secrets.token_urlsafe(_BYTES)
        try:
            await self._cache.redis.set(self._key(ticket), _dump(holder), ex=TICKET_TTL_S)
        except (RedisError, OSError) as error:
            raise _no_cache() from error
        return ticket

    async def redeem(self, ticket: str) -> Holder | None:
        """Whom it stands for; from then on it stands for nobody. None: unknown, used or expired.

        Raises:
            ApiError: not_ready: Valkey does not answer.
        """
        if not 0 < len(ticket) <= _MAX_CHARACTERS:
            return None
        try:
            found = await self._cache.redis.getdel(self._key(ticket))
        except (RedisError, OSError) as error:
            raise _no_cache() from error
        return None if found is None else _load(cast(bytes, found))

    def _key(self, ticket: str) -> str:
        return self._cache.key("ticket", hashlib.sha256(ticket.encode()).hexdigest())


def _dump(holder: Holder) -> str:
    principal = {**asdict(holder.principal), "scopes": sorted(holder.principal.scopes)}
    return json.dumps({"principal": principal, "session_id": holder.session_id})


def _load(text: bytes) -> Holder | None:
    found = json.loads(text)
    if "principal" not in found:  # of the version before; it lives for a minute
        return None
    values = found["principal"]
    scopes = frozenset(map(Scope, values.pop("scopes")))
    principal = Principal(**{**values, "role": Role(values["role"])}, scopes=scopes)
    return Holder(principal, found["session_id"])


def _no_cache() -> ApiError:
    message = "tickets can not be kept just now, since the cache does not answer: try again in a moment"
    return ApiError(
        ErrorCode.NOT_READY, message, details={"dependencies": {"cache": message}}, retry_after_s=RETRY_SOON_S
    )
