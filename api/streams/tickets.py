"""One-use tickets: how a browser, which can send no header with a WebSocket, opens one without a key in its URL."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict
from typing import cast

from redis.exceptions import RedisError

from api.auth.principal import Principal, Role, Scope
from api.cache.client import Cache
from api.errors import RETRY_SOON_S, ApiError, ErrorCode

TICKET_TTL_S = 60
_BYTES = 24
_MAX_CHARACTERS = 64


class Tickets:
    """In Valkey, by hash: who reads the cache can not use them, and a restart makes them void."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def issue(self, principal: Principal) -> str:
        """A ticket that stands for this principal, once, within ``TICKET_TTL_S`` seconds.

        Raises:
            ApiError: not_ready: Valkey does not answer.
        """
        ticket = secrets.token_urlsafe(_BYTES)
        try:
            await self._cache.redis.set(self._key(ticket), _dump(principal), ex=TICKET_TTL_S)
        except (RedisError, OSError) as error:
            raise _no_cache() from error
        return ticket

    async def redeem(self, ticket: str) -> Principal | None:
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


def _dump(principal: Principal) -> str:
    return json.dumps({**asdict(principal), "scopes": sorted(principal.scopes)})


def _load(text: bytes) -> Principal:
    values = json.loads(text)
    scopes = frozenset(map(Scope, values.pop("scopes")))
    return Principal(**{**values, "role": Role(values["role"])}, scopes=scopes)


def _no_cache() -> ApiError:
    message = "tickets can not be kept just now, since the cache does not answer: try again in a moment"
    return ApiError(
        ErrorCode.NOT_READY, message, details={"dependencies": {"cache": message}}, retry_after_s=RETRY_SOON_S
    )
