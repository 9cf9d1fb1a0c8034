"""How fast anyone may ask: sliding windows counted in Valkey, so that all gateways count together.

When Valkey is gone or slow, each process counts for itself: looser by the number of processes, never open. The first
requests that notice wait at most ``PATIENCE_S``; after that one request in ``RETRY_S`` tries the shared counters again,
and when it succeeds all do. The log says so once: it is back when it has answered for ``STEADY_S``.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import math
import time
from typing import Literal

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.exceptions import RedisError

from api.auth.principal import Principal
from api.cache.client import Cache
from api.errors import ApiError, ErrorCode
from api.limits.headers import RateState
from api.limits.shared_counters import SharedCounters, Window
from api.limits.tiers import RatePolicy, Tiers

RateKind = Literal["anonymous", "login_ip", "login_account", "register", "upload"]

RETRY_S = 2.0
STEADY_S = 10.0
_BY_ADDRESS = frozenset({"anonymous", "login_ip", "register"})
_MINUTE_S = 60
_COUNTED = {
    "requests": "requests of this account",
    "anonymous": "requests without an account from this address",
    "login_ip": "logins from this address",
    "login_account": "logins to this account",
    "register": "registrations from this address",
    "upload": "uploads of this account",
}
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
        self._shared = SharedCounters(cache)
        self._local = MemoryStorage()
        self._local_limiter = SlidingWindowCounterRateLimiter(self._local)
        self._degraded_until: float | None = None
        self._well_since: float | None = None
        self._told_gone = False

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
        allowed, state = await self._take(item, principal.account_id)
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
            raise _refused(state)

    async def close(self) -> None:
        """Close the connections; may be called more than once."""
        await self._shared.close()

    async def _take(self, item: RateLimitItem, key: str) -> tuple[bool, RateState]:
        digest = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        name, window_s = item.key_for(digest), item.get_expiry()
        if self._may_share():
            try:
                window = await self._shared.hit(name, item.amount, window_s)
            except (RedisError, OSError) as error:  # OSError includes TimeoutError
                self._lost(error)
            else:
                self._found()
                return window.allowed, _state(item, window)
        allowed = await self._local_limiter.hit(item, digest)
        window = Window(allowed, *await self._local.get_sliding_window(name, window_s))
        return allowed, _state(item, window)

    def _may_share(self) -> bool:
        if self._degraded_until is None:
            return True
        now = time.monotonic()
        if now < self._degraded_until:
            return False
        self._degraded_until = now + RETRY_S  # this request tries; the others do not wait for it
        return True

    def _lost(self, error: Exception) -> None:
        if not self._told_gone:
            self._told_gone = True
            _log.warning(
                "the cache is gone, so each process counts rates for itself until it is back: %s: %s",
                type(error).__name__,
                error,
            )
        self._well_since = None
        self._degraded_until = time.monotonic() + RETRY_S

    def _found(self) -> None:
        self._degraded_until = None
        if not self._told_gone:
            return
        now = time.monotonic()
        if self._well_since is None:
            self._well_since = now
        if now - self._well_since >= STEADY_S:
            self._told_gone = False
            _log.warning("the cache is back: rates are counted together again")


def _item(kind: RateKind, policy: RatePolicy) -> RateLimitItem:
    return RateLimitItemPerSecond(policy.limit, policy.window_s, kind)


def _state(item: RateLimitItem, window: Window) -> RateState:
    remaining, reset_s = window_state(
        item.amount, item.get_expiry(), window.previous, window.previous_ttl_s, window.current, window.current_ttl_s
    )
    return RateState(item.namespace, item.amount, remaining if window.allowed else 0, reset_s, item.get_expiry())


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
        f"more than {state.limit} {_COUNTED[state.policy]} in {state.window_s} seconds: wait for as many seconds as "
        "Retry-After says",
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
