"""The server that is put under load: its address, its connections, and small calls to it."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

from benchmarks.api.client import ConnectionLostError
from benchmarks.serve_load.wire import Body, Connection

IDLE_S = 20.0
"""An idle connection older than this is not used again: the server may be closing it at this moment."""
CONNECT_TIMEOUT_S = 10.0
_SMALL_BUFFER = 8192


class Server:
    """Where requests go. Keeps connections; opens one more whenever all are busy, as independent clients would.

    Args:
        url: of the server, with or without a path before its own.

    Raises:
        ValueError: that is no address of a server.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is no address of a server: it begins with http:// or https://")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path.rstrip("/")
        self._host_header = parts.netloc.rpartition("@")[2]
        self._context = ssl.create_default_context() if parts.scheme == "https" else None
        self._idle: list[Connection] = []

    def request(
        self, method: str, path: str, key: str | None = None, body: Any = None, headers: dict[str, str] | None = None
    ) -> bytes:
        """The bytes of a request."""
        lines = [f"{method} {self._prefix}{path} HTTP/1.1", f"Host: {self._host_header}"]
        if key is not None:
            lines.append(f"Authorization: Bearer {key}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        data = b"" if body is None else json.dumps(body).encode()
        if data:
            lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
        return "\r\n".join([*lines, "\r\n"]).encode() + data

    async def connect(self, *, is_small: bool = False) -> Connection:
        """A connection of one's own.

        Args:
            is_small: the kernel takes little in advance, so that a slow reader is felt at the other end.

        Raises:
            OSError, TimeoutError: there is nobody.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            family, kind, proto, _, address = found[0]
            sock = socket.socket(family, kind, proto)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if is_small:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
                await loop.sock_connect(sock, address)
                name = self._host if self._context is not None else None
                _, made = await loop.create_connection(Connection, sock=sock, ssl=self._context, server_hostname=name)
            except BaseException:
                sock.close()
                raise
            return made

    async def call(self, request: bytes) -> Body:
        """One small call, on a connection that is kept.

        Raises:
            ConnectionLostError, OSError, TimeoutError: no whole answer.
        """
        while (connection := self._kept()) is not None:
            answer = Body()
            try:
                return await self._ask(connection, request, answer)
            except ConnectionLostError:
                if answer.status:
                    raise
                # The server had closed it meanwhile, and took nothing: that is no failure.
        return await self._ask(await self.connect(), request, Body())

    async def _ask(self, connection: Connection, request: bytes, answer: Body) -> Body:
        try:
            await connection.ask(request, answer)
        except BaseException:
            connection.abort()
            raise
        if connection.is_open:
            self._idle.append(connection)
        return answer

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and time.monotonic() - connection.used_at < IDLE_S:
                return connection
            connection.abort()
        return None

    def close(self) -> None:
        for connection in self._idle:
            connection.abort()
        self._idle.clear()
