"""How fast anyone may ask: sliding windows counted in Valkey, so that all gateways count together.

When Valkey is gone or slow, each process counts for itself: looser by the number of processes, never open. The first
request that notices waits at most ``TIMEOUT_S``; after that one request in ``RETRY_S`` tries the shared counters again,
and when it succeeds all do. Counting costs two commands for a request, one for the other kinds.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import math
import time
from typing import Any, Literal, cast

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.storage.base import SlidingWindowCounterSupport
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from api.auth.principal import Principal
from api.cache.client import Cache
from api.errors import ApiError, ErrorCode
from api.limits.headers import RateState
from api.limits.tiers import RatePolicy, Tiers

RateKind = Literal["anonymous", "login_ip", "login_account", "register", "upload"]

TIMEOUT_S = 0.5
RETRY_S = 2.0
MAX_CONNECTIONS = 16
_BY_ADDRESS = frozenset({"anonymous", "login_ip", "register"})
_MINUTE_S = 60
_MARGIN_S = 0.002  # the counters' clock ticks in milliseconds
_log = logging.getLogger(__name__)


class Rates:
    """The counters of one process and those it shares with the others."""

    def __init__(self, cache: Cache, tiers: Tiers) -> None:
        self._tiers = tiers
        self._policies: dict[RateKind, RateLimitItem] = {
            "anonymous": _item("anonymous", tiers.rates.anonymous),
            "login_ip": _item("login_ip", tiers.rates.login_ip),
            "login_account": _item("login_account", tiers.rates.login_account),
            "register": _item("register", tiers.rates.register_),
            "upload": _item("upload", tiers.rates.upload),
        }
        self._pool = _own_pool(cache)
        # What limits declares of these options is narrower than what it passes on to redis-py.
        options: dict[str, Any] = {"connection_pool": self._pool}
        shared = RedisStorage("async+redis://", implementation="redispy", key_prefix=cache.key("rate"), **options)
        self._shared = SlidingWindowCounterRateLimiter(shared)
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._degraded_until: float | None = None

    @property
    def degraded(self) -> bool:
        """Each process counts for itself."""
        return self._degraded_until is not None

    async def check_request(self, principal: Principal) -> RateState:
        """Count one request of an account, by its tier. What comes back belongs into ``request.state.rate``.

        Raises:
            ApiError: rate_limited, which carries the rate's headers.
        """
        tier = self._tiers[principal.tier]
        # The tier is part of the key by its limit: whoever moves to another tier begins anew.
        item = RateLimitItemPerSecond(tier.requests_per_minute, _MINUTE_S, "requests")
        allowed, state = await self._take(item, principal.account_id, with_state=True)
        assert state is not None
        if not allowed:
            raise _refused(state)
        return state

    async def hit(self, kind: RateKind, key: str) -> None:
        """Count one attempt.

        Args:
            key: the client's address (IPv6 counts by /64, which is what one household has), the e-mail address of a
                login, or the account's id. Only a hash of it is stored.

        Raises:
            ApiError: rate_limited.
        """
        item = self._policies[kind]
        allowed, state = await self._take(item, _network(key) if kind in _BY_ADDRESS else key.casefold())
        if not allowed:
            assert state is not None
            raise _refused(state)

    async def close(self) -> None:
        """Close the connections; may be called more than once."""
        await self._pool.disconnect()

    async def _take(self, item: RateLimitItem, key: str, *, with_state: bool = False) -> tuple[bool, RateState | None]:
        digest = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        if self._may_share():
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    taken = await _count(self._shared, item, digest, with_state)
            except (RedisError, OSError) as error:  # OSError includes TimeoutError
                self._lost(error)
            else:
                self._found()
                return taken
        return await _count(self._local, item, digest, with_state)

    def _may_share(self) -> bool:
        if self._degraded_until is None:
            return True
        now = time.monotonic()
        if now < self._degraded_until:
            return False
        self._degraded_until = now + RETRY_S  # this request tries; the others do not wait for it
        return True

    def _lost(self, error: Exception) -> None:
        if self._degraded_until is None:
            _log.warning(
                "the cache is gone, so each process counts rates for itself until it is back: %s: %s",
                type(error).__name__,
                error,
            )
        self._degraded_until = time.monotonic() + RETRY_S

    def _found(self) -> None:
        if self._degraded_until is not None:
            self._degraded_until = None
            _log.warning("the cache is back: rates are counted together again")


def _item(kind: RateKind, policy: RatePolicy) -> RateLimitItem:
    return RateLimitItemPerSecond(policy.limit, policy.window_s, kind)


async def _count(
    limiter: SlidingWindowCounterRateLimiter, item: RateLimitItem, key: str, with_state: bool
) -> tuple[bool, RateState | None]:
    allowed = await limiter.hit(item, key)
    if allowed and not with_state:
        return True, None
    window_s = item.get_expiry()
    storage = cast(SlidingWindowCounterSupport, limiter.storage)
    remaining, reset_s = window_state(
        item.amount, window_s, *await storage.get_sliding_window(item.key_for(key), window_s)
    )
    return allowed, RateState(item.namespace, item.amount, remaining if allowed else 0, reset_s, window_s)


def window_state(
    limit: int, window_s: int, previous: int, previous_ttl_s: float, current: int, current_ttl_s: float
) -> tuple[int, float]:
    """What is left in a sliding window, and the seconds until it is one more.

    The window is counted as ⌊previous · previous_ttl / window⌋ + current. (``limits`` has a function for this too; it
    answers 0 seconds in the first millisecond of a window, when the truth is all of it.)

    Args:
        previous: hits in the fixed window before this one, of which ``previous_ttl_s`` still slide by.
        current: hits in this one, which lives for ``current_ttl_s``: what is left of it, and once more as previous.
    """
    weight = previous * previous_ttl_s / window_s
    resets: list[float] = []
    if weight >= 1:
        resets.append(previous_ttl_s - math.floor(weight) * window_s / previous)
    if current > 0:
        resets.append(current_ttl_s - window_s)
    return max(0, limit - math.floor(weight) - current), max(0.0, min(resets, default=0.0))


def _refused(state: RateState) -> ApiError:
    return ApiError(
        ErrorCode.RATE_LIMITED,
        f"more than {state.limit} in {state.window_s} seconds: wait for as many seconds as Retry-After says",
        details={"policy": state.policy, "limit": state.limit, "window_s": state.window_s},
        retry_after_s=state.reset_s + _MARGIN_S,
        headers=state.headers(),
    )


def _network(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address  # no address: a Unix socket's peer, or a test's
    if ip.version == 4:
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False))


def _own_pool(cache: Cache) -> BlockingConnectionPool:
    """Connections of its own: a limit must not wait behind streams, nor through the retries that suit those."""
    shared = cache.redis.connection_pool
    patience: dict[str, Any] = {
        "socket_connect_timeout": TIMEOUT_S,
        "socket_timeout": None,  # the whole of a count has one timeout
        # Once, for a connection that died while it was idle.
        "retry": Retry(NoBackoff(), 1),
    }
    return BlockingConnectionPool(
        connection_class=shared.connection_class,
        max_connections=MAX_CONNECTIONS,
        timeout=TIMEOUT_S,
        **{**shared.connection_kwargs, **patience},
    )
