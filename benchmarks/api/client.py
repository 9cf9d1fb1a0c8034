"""An HTTP/1.1 client that costs as little as Python allows: the load must not be what is measured.

Only what this server answers to these requests: a body with Content-Length, or a stream that the caller reads as it is.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

HOST = "127.0.0.1"


class ConnectionLostError(Exception):
    """The server closed the connection before the answer was whole."""


@dataclass(frozen=True, slots=True)
class Answer:
    """
    Attributes:
        took_s: from the intended moment of sending to the last byte of the body.
        lag_s: how much later than intended it was sent.
    """

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    took_s: float
    lag_s: float = 0.0

    @property
    def retry_after_s(self) -> float:
        return float(self.headers[b"retry-after"])

    def json(self) -> Any:
        return json.loads(self.body)


def request(method: str, path: str, key: str, body: bytes = b"", extra: str = "") -> bytes:
    """The bytes of a request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {key}\r\n{extra}"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def parse_head(head: bytes) -> tuple[int, dict[bytes, bytes]]:
    """Status and headers, names in lower case."""
    lines = head.split(b"\r\n")
    pairs = (line.partition(b":") for line in lines[1:] if line)
    return int(lines[0].split(b" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs}


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiting: asyncio.Future[tuple[int, dict[bytes, bytes], bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._waiting is None:
            return
        status, headers = parse_head(bytes(self._buffer[:end]))
        size = end + 4 + int(headers.get(b"content-length", b"0"))
        if len(self._buffer) >= size:
            body = bytes(self._buffer[end + 4 : size])
            del self._buffer[:size]
            if not self._waiting.done():
                self._waiting.set_result((status, headers, body))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionLostError(str(exc or "closed by the server")))

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    async def send(self, data: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
        if self._transport is None:
            raise ConnectionLostError("closed by the server")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return await self._waiting

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Client:
    """Keeps its connections; opens one more whenever all are busy, as independent callers would."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[_Connection] = []

    async def call(self, data: bytes, intended: float | None = None) -> Answer:
        """One call.

        Args:
            intended: by ``time.perf_counter``, when it should have been sent; left out: now.

        Raises:
            ConnectionLostError, OSError: no whole answer.
        """
        now = time.perf_counter()
        intended = now if intended is None else intended
        connection = await self._connection()
        status, headers, body = await connection.send(data)
        self._idle.append(connection)
        return Answer(status, headers, body, time.perf_counter() - intended, now - intended)

    async def _connection(self) -> _Connection:
        while self._idle:
            if (connection := self._idle.pop()).is_open:
                return connection
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, HOST, self._port)
        return connection

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
