"""Argon2id with OWASP's parameters (19 MiB, 2 passes, 1 lane), in a few threads, with a bounded line before them."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from api.errors import ApiError, ErrorCode

T = TypeVar("T")

# Of a password nobody has, made with the parameters below: checked when there is no account, so that the answer takes
# as long as with one.
NOBODY: Final = "$argon2id$v=19$m=19456,t=2,p=1$5hygzqOxddOCTX0d7kT6sA$lts27VUTf9OGuJRU4SrNMX2QYn/ubNHN6YNg/U4vsgs"
_BUSY_RETRY_S = 2.0


class Passwords:
    """Hashes and checks passwords without holding up the event loop.

    Args:
        threads: how many at once; each takes 19 MiB and a core for some 16 ms.
        max_waiting: how many more may wait; the next one is refused.
    """

    def __init__(self, threads: int = 2, max_waiting: int = 64) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._max_pending = threads + max_waiting
        self._pending = 0

    async def hash(self, password: str) -> str:
        """
        Raises:
            ApiError: system_overloaded, when too many are waiting.
        """
        return await self._run(lambda: self._hasher.hash(_normal(password)))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether the password is the one; without a stored hash False, after just as long.

        Raises:
            ApiError: system_overloaded, when too many are waiting.
        """
        return await self._run(lambda: self._matches(stored or NOBODY, password)) and stored is not None

    def outdated(self, stored: str) -> bool:
        """Made with other parameters: worth hashing again while the password is at hand."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, _normal(password))
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._pending >= self._max_pending:
            raise ApiError(
                ErrorCode.SYSTEM_OVERLOADED,
                "too many logins at once: wait for as many seconds as Retry-After says",
                retry_after_s=_BUSY_RETRY_S,
            )
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._pending -= 1


def _normal(password: str) -> bytes:
    """The same characters typed on another keyboard are the same password (NIST SP 800-63B, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password).encode()
