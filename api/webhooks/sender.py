"""One attempt: a POST to an address that was checked, with a limit on everything the other side could waste."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import httpx2

from api.clock import Clock
from api.version import VERSION
from api.webhooks.addresses import Address
from api.webhooks.guard import Guard, ResolutionError
from api.webhooks.schedule import parse_retry_after
from api.webhooks.targets import Target, UrlRefusedError

CONNECT_TIMEOUT_S: Final = 5.0  # so that there is time for another of the name's addresses
MAX_RESPONSE_BYTES: Final = 64 * 1024
EXCERPT_CHARACTERS: Final = 1000
_ERROR_CHARACTERS: Final = 300
_ASKS_TO_WAIT: Final = frozenset({429, 503})
_HEADERS: Final = {
    "Content-Type": "application/json",
    "User-Agent": f"Tutti-Webhooks/{VERSION}",
    # The excerpt is kept as it comes: no compressed kilobyte shall become a gigabyte here.
    "Accept-Encoding": "identity",
    "Connection": "close",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt.

    Attributes:
        status: of the answer; None if there was none.
        error: why it does not count as delivered; None if it does.
        excerpt: the first characters of the answer's body.
        duration_ms: from name resolution to the end.
        retry_after_s: what a 429 or 503 asked for.
    """

    status: int | None
    error: str | None
    excerpt: str | None
    duration_ms: float
    retry_after_s: float | None = None

    @property
    def delivered(self) -> bool:
        return self.error is None

    @property
    def gone(self) -> bool:
        """The receiver wants to hear nothing more, ever."""
        return self.status == 410


@dataclass(slots=True)
class _Answer:
    """What is known of the answer so far; it is kept when the time runs out."""

    status: int | None = None
    retry_after: str | None = None
    body: bytearray = field(default_factory=bytearray)


class Sender:
    """Sends webhooks.

    Args:
        guard: says where to.
        clock: for Retry-After with a date.
        timeout_s: for everything together, from name resolution to the last byte of the answer.
        tls: what to trust; left out: the operating system's certificates, whatever the environment says.
    """

    def __init__(self, guard: Guard, clock: Clock, timeout_s: float, tls: ssl.SSLContext | None = None) -> None:
        self._guard = guard
        self._clock = clock
        self._timeout_s = timeout_s
        self._tls = tls or httpx2.create_ssl_context(trust_env=False)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Send once. Whatever the other side does is an outcome, never an exception."""
        started = time.perf_counter()
        answer = _Answer()
        error: str | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                target = self._guard.read(url)
                await self._send(target, await self._guard.addresses(target), headers, body, answer)
        except TimeoutError:
            error = f"no answer within {self._timeout_s:g} s"
        except UrlRefusedError as refused:
            error = f"not sent: the url {refused}"
        except ResolutionError as failed:
            error = f"not sent: {failed}"
        except httpx2.TransportError as failed:
            error = _explain(failed)
        return self._outcome(answer, error, (time.perf_counter() - started) * 1000)

    async def _send(
        self, target: Target, addresses: Sequence[Address], headers: Mapping[str, str], body: bytes, answer: _Answer
    ) -> None:
        """To the first address that takes the connection; before that nothing was sent, so nothing is sent twice."""
        *others, last = addresses
        for address in others:
            with suppress(httpx2.ConnectError, httpx2.ConnectTimeout):
                return await self._exchange(target, address, headers, body, answer)
        return await self._exchange(target, last, headers, body, answer)

    async def _exchange(
        self, target: Target, address: Address, headers: Mapping[str, str], body: bytes, answer: _Answer
    ) -> None:
        request = httpx2.Request(
            "POST",
            target.at(address),
            headers={"Host": target.authority, **_HEADERS, **headers},
            content=body,
            extensions={"sni_hostname": target.host, "timeout": {"connect": CONNECT_TIMEOUT_S}},
        )
        # A transport per attempt: pooled connections are found by address, and one that was opened and checked for
        # another name at the same address must not be taken. A bare transport follows no redirect and keeps no cookie.
        async with httpx2.AsyncHTTPTransport(verify=self._tls, trust_env=False) as transport:
            response = await transport.handle_async_request(request)
            answer.status = response.status_code
            answer.retry_after = response.headers.get("retry-after")
            try:
                async for piece in response.aiter_raw():
                    answer.body += piece[: MAX_RESPONSE_BYTES - len(answer.body)]
                    if len(answer.body) >= MAX_RESPONSE_BYTES:
                        break
            finally:
                await response.aclose()

    def _outcome(self, answer: _Answer, error: str | None, duration_ms: float) -> Outcome:
        if answer.status is None:
            return Outcome(None, error or "no answer", None, duration_ms)
        asked = answer.retry_after if answer.status in _ASKS_TO_WAIT else None
        return Outcome(
            status=answer.status,
            # The status is the receiver's word; that its body was cut afterwards changes nothing.
            error=_refusal(answer.status),
            excerpt=_excerpt(bytes(answer.body)),
            duration_ms=duration_ms,
            retry_after_s=parse_retry_after(asked, self._clock()),
        )


def _refusal(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"answered {status}: redirects are not followed, register the address it leads to"
    return f"answered {status}"


def _excerpt(body: bytes) -> str | None:
    """Text that every database takes: PostgreSQL knows no NUL."""
    text = body[: 4 * EXCERPT_CHARACTERS].decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text[:EXCERPT_CHARACTERS] or None


_WHAT: Final[tuple[tuple[type[httpx2.TransportError], Callable[[str], str]], ...]] = (
    (httpx2.ConnectTimeout, lambda _: f"could not connect within {CONNECT_TIMEOUT_S:g} s"),
    (httpx2.ConnectError, lambda text: f"could not connect: {text}"),
    (httpx2.RemoteProtocolError, lambda text: f"the answer was no HTTP: {text}"),
    (httpx2.TransportError, lambda text: f"the connection broke: {text}"),
)


def _explain(error: httpx2.TransportError) -> str:
    text = str(error).replace("\0", "") or type(error).__name__
    return next(say(text) for kind, say in _WHAT if isinstance(error, kind))[:_ERROR_CHARACTERS]
