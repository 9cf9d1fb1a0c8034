"""A listener to a generation's events with audio: notes when each piece was whole, and keeps the bytes if asked to."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time

# The last number of a resume id counts the pieces that were sent.
_EVENT = re.compile(rb"event: (audio|done)\n(?:id: [\d.]*?(\d+)\n)?")
_LONGEST_HEAD = 96


class Listener(asyncio.Protocol):
    """
    Attributes:
        times: piece number, from 1 → when its last byte came.
        problems: what came out of order.
        done: the last event came, or the connection ended.
        opened: the stream has begun.
    """

    def __init__(self, data: bytes, *, keep: bool) -> None:
        loop = asyncio.get_running_loop()
        self.times: dict[int, float] = {}
        self.problems: list[str] = []
        self.done: asyncio.Future[bool] = loop.create_future()
        self.opened: asyncio.Future[None] = loop.create_future()
        self._request = data
        self._kept: list[bytes] | None = [] if keep else None
        self._tail = b""
        self._open: int | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            self.opened.set_result(None)
        if self._kept is not None:
            self._kept.append(data)
        data, at = self._tail + data, 0
        while True:
            if self._open is None:
                found = _EVENT.search(data, at)
                if found is None:
                    self._tail = data[max(at, len(data) - _LONGEST_HEAD) :]
                    return
                if found[1] == b"done":
                    self._end(True)
                    return
                self._open, at = int(found[2]), found.end()
            end = data.find(b"\n\n", at)
            if end < 0:
                self._tail = data[max(at, len(data) - 1) :]
                return
            self._piece(self._open)
            self._open, at = None, end

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(False)

    def audio(self) -> bytes:
        """The samples of the whole stream, if it was kept."""
        events = _unchunked(b"".join(self._kept or [])).split(b"\n\n")
        lines = (dict(line.split(b": ", 1) for line in event.split(b"\n") if b": " in line) for event in events)
        data = (json.loads(event[b"data"])["data"] for event in lines if event.get(b"event") == b"audio")
        return b"".join(base64.b64decode(one) for one in data)

    def _piece(self, number: int) -> None:
        if number != len(self.times) + 1:
            self.problems.append(f"piece {number} after {len(self.times)}")
        self.times[number] = time.perf_counter()

    def _end(self, whole: bool) -> None:
        if not self.done.done():
            self.done.set_result(whole)
        if not self.opened.done():
            self.opened.set_exception(ConnectionError("closed by the server"))
        if self._transport is not None:
            self._transport.close()


def _unchunked(raw: bytes) -> bytes:
    """The body behind the head, its chunked coding undone as far as it came."""
    _, _, rest = raw.partition(b"\r\n\r\n")
    parts = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        parts.append(rest[: int(size or b"0", 16)])
        rest = rest[len(parts[-1]) + 2 :]
    return b"".join(parts)
