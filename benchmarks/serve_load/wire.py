"""HTTP/1.1 that costs as little as Python allows and notes when each byte came: the load must not be what is measured.

Bodies with Content-Length, in chunks, or until the connection closes. An answer goes to a ``Sink`` as it comes.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, Protocol

from benchmarks.api.client import ConnectionLostError, parse_head


class Sink(Protocol):
    """Takes an answer as it comes."""

    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Status and headers; names in lower case."""

    def data(self, data: bytes, at: float) -> None:
        """Some of the body, and when it came by ``time.perf_counter``."""


class Body:
    """Keeps the whole answer, for small ones."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []

    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status, self.headers = status, headers

    def data(self, data: bytes, at: float) -> None:
        self._parts.append(data)

    def json(self) -> Any:
        """
        Raises:
            ValueError: it is none.
        """
        return json.loads(b"".join(self._parts))


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._sink: Sink | None = None
        self._whole: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._left: int | None = None  # bytes of the body, or of its chunk, that are still to come; None: not known
        self._state = "head"
        self._may_stay = True
        self.used_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing() and self._may_stay

    async def ask(self, request: bytes, sink: Sink) -> None:
        """Send it, and return when the answer is whole.

        Raises:
            ConnectionLostError: the connection ended before that.
        """
        if self._transport is None:
            raise ConnectionLostError("closed by the server")
        self._sink, self._state = sink, "head"
        self._whole = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            await self._whole
        finally:
            self._sink = None
        self.used_at = time.monotonic()

    def pause(self, seconds: float) -> None:
        """Read nothing for so long."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(seconds, self._resume)

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """Go away without a word."""
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------------------------------------------ what comes
    def data_received(self, data: bytes) -> None:
        at = time.perf_counter()
        self._buffer += data
        try:
            while self._whole is not None and not self._whole.done() and self._step(at):
                pass
        except (ValueError, LookupError) as error:
            self._lose(f"not what this API answers: {error}")
            self.abort()

    def _step(self, at: float) -> bool:
        """Take the next part of the answer from the buffer; False: it is not there yet."""
        if self._state == "head":
            return self._take_head()
        if self._state == "size":
            return self._take_size()
        return self._take_body(at)

    def _take_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        status, headers = parse_head(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        if status == 100:
            return True
        assert self._sink is not None
        self._may_stay = headers.get(b"connection", b"").lower() != b"close"
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            self._state = "size"
        else:
            length = headers.get(b"content-length")
            self._state, self._left = "body", None if length is None else int(length)
            self._may_stay &= length is not None
        self._sink.head(status, headers)
        if status == 204 or (self._state == "body" and self._left == 0):
            self._end()
        return True

    def _take_size(self) -> bool:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return False
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        if not line:  # behind a chunk
            return True
        size = int(line.partition(b";")[0], 16)
        # Behind the last chunk an empty line; no server here sends trailers.
        self._state, self._left = ("chunk", size) if size else ("last", 2)
        return True

    def _take_body(self, at: float) -> bool:
        if not self._buffer:
            return False
        assert self._sink is not None
        size = len(self._buffer) if self._left is None else min(self._left, len(self._buffer))
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        if self._state != "last":
            self._sink.data(data, at)
        if self._left is None:
            return False
        self._left -= size
        if self._left == 0:
            if self._state == "chunk":
                self._state = "size"
            else:
                self._end()
        return True

    def _end(self) -> None:
        if self._whole is not None and not self._whole.done():
            self._whole.set_result(None)
        if not self._may_stay and self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._state == "body" and self._left is None and exc is None:
            self._end()
        else:
            self._lose(str(exc or "closed by the server"))

    def _lose(self, reason: str) -> None:
        if self._whole is not None and not self._whole.done():
            self._whole.set_exception(ConnectionLostError(reason))
