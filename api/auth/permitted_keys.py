"""An account's API keys as whoever asks may handle them: no credential gets at more than it may do itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from api.auth.api_keys import ApiKeys, Made, NewKey, Once
from api.auth.key_format import KeyMode
from api.auth.policy import Policy, refuse_unless
from api.auth.principal import Principal, Scope
from api.clock import Clock
from api.errors import ApiError, ErrorCode


class PermittedKeys:
    """
    Args:
        forget: called when a key has ended or will end sooner, so that this process looks it up again.
    """

    def __init__(self, keys: ApiKeys, clock: Clock, *, forget: Callable[[], None]) -> None:
        self._keys = keys
        self._clock = clock
        self._forget = forget

    async def create(
        self,
        principal: Principal,
        name: str,
        mode: KeyMode,
        scopes: frozenset[Scope] | None,
        expires_at: datetime | None,
        once: Once | None = None,
    ) -> Made:
        """A new API key and, for the only time, what it reads. No credential can make one that may do more than itself.

        Args:
            scopes: None: those of the credential that asks.

        Raises:
            ApiError: permission_denied, limit_reached, invalid_parameter for an expiry that has passed.
        """
        wanted = principal.scopes if scopes is None else scopes
        refuse_unless(principal, Policy(public=False, scopes=wanted))
        if principal.test_mode and mode != "test":
            raise ApiError(ErrorCode.PERMISSION_DENIED, "a test key makes test keys only: use a live one", param="mode")
        if expires_at is not None and expires_at <= self._clock():
            raise ApiError(
                ErrorCode.INVALID_PARAMETER, "expires_at has passed: give a time to come", param="expires_at"
            )
        return await self._keys.create(principal.account_id, NewKey(name, mode, wanted, expires_at), once)

    async def revoke(self, principal: Principal, key_id: str) -> None:
        """
        Raises:
            ApiError: api_key_not_found.
        """
        await self._keys.revoke(principal.account_id, key_id)
        self._forget()

    async def rotate(self, principal: Principal, key_id: str, overlap_s: float, once: Once | None = None) -> Made:
        """
        Raises:
            ApiError: api_key_not_found, api_key_inactive, or permission_denied when the key may do more than the
                credential that asks.
        """
        old = await self._keys.get(principal.account_id, key_id)
        refuse_unless(principal, Policy(public=False, scopes=old.scopes))
        if principal.test_mode and old.mode != "test":
            raise ApiError(ErrorCode.PERMISSION_DENIED, "a test key rotates test keys only: use a live one")
        rotated = await self._keys.rotate(principal.account_id, key_id, overlap_s, once)
        self._forget()
        return rotated
