"""From a URL to the addresses a webhook may be sent to. Asked at registration and again at each attempt."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from api.webhooks.addresses import Address, allowed, parse
from api.webhooks.targets import Rules, Target, UrlRefusedError, parse_target

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port → its addresses as text, the best one first. Raises socket.gaierror."""

# A connection that fails is tried at this many of a name's addresses.
MAX_ADDRESSES: Final = 4
# Lookups run in threads that nobody can stop; a name server that hangs shall hold up no more than these.
_RESOLVER_THREADS: Final = 16
_TEMPORARY: Final = frozenset({socket.EAI_AGAIN, socket.EAI_SYSTEM, socket.EAI_MEMORY})


class ResolutionError(OSError):
    """The name could not be looked up at this moment."""


class SystemResolver:
    """The operating system's resolver, in threads of its own.

    Args:
        absolute: names are whole names. Otherwise this machine's search domains and its hosts file apply too.
    """

    def __init__(self, *, absolute: bool) -> None:
        self._absolute = absolute
        self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, thread_name_prefix="webhook-resolver")

    async def __call__(self, host: str, port: int) -> list[str]:
        name = f"{host}." if self._absolute else host
        look_up = asyncio.get_running_loop().run_in_executor(self._threads, _getaddrinfo, name, port)
        return list(dict.fromkeys(await look_up))

    def close(self) -> None:
        """Lookups under way are left to end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _getaddrinfo(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for _family, _type, _protocol, _name, address in found]


class Guard:
    """Decides where webhooks may go.

    Args:
        rules: what the settings open.
        resolve: left out: the operating system's resolver.
    """

    def __init__(self, rules: Rules, resolve: Resolve | None = None) -> None:
        self._rules = rules
        self._system = None if resolve else SystemResolver(absolute=not rules.allow_private)
        self._resolve: Resolve = resolve or self._system  # type: ignore[assignment]

    def read(self, url: str) -> Target:
        """
        Raises:
            UrlRefusedError: no URL for webhooks; see ``parse_target``.
        """
        return parse_target(url, self._rules)

    async def addresses(self, target: Target) -> list[Address]:
        """Where to connect, the best address first: the name is looked up once, and every answer must be allowed.

        A name with one public and one private address is refused, since it is either a mistake or an attack.

        Raises:
            UrlRefusedError: the name does not exist or leads to an address that is not allowed.
            ResolutionError: it can not be looked up now.
        """
        if target.literal is not None:
            return [target.literal]
        try:
            answers = [parse(text) for text in await self._resolve(target.host, target.port)]
        except socket.gaierror as error:
            if error.errno in _TEMPORARY:
                raise ResolutionError("the host name could not be looked up at this moment") from error
            raise UrlRefusedError("must have a host name that exists: this one leads to no address") from error
        if not answers:
            raise UrlRefusedError("must have a host name that exists: this one leads to no address")
        if not all(allowed(address, allow_private=self._rules.allow_private) for address in answers):
            # Which address it was is not told: names may resolve differently inside than outside.
            raise UrlRefusedError("must lead to public addresses only: this name has one that is private or reserved")
        return answers[:MAX_ADDRESSES]

    async def check(self, url: str, timeout_s: float) -> str:
        """The URL in its normal form, if webhooks may be sent there as far as can be known now.

        A name server that does not answer is no reason to refuse: each attempt asks again.

        Raises:
            UrlRefusedError: they may not.
        """
        target = self.read(url)
        try:
            async with asyncio.timeout(timeout_s):
                await self.addresses(target)
        except (ResolutionError, TimeoutError):
            pass
        return target.url

    def close(self) -> None:
        if self._system is not None:
            self._system.close()
