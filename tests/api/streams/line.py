"""A WebSocket as tests hold it, and a connection that takes next to nothing."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection

from tests.api.streams.stage import PATIENCE_S

PATH = "/api/v1/ws"

Dial = Callable[..., Any]


def deaf_to(url: str) -> socket.socket:
    """Connected, with so little room for what comes that a server notices soon that nobody reads."""
    where = urlsplit(url)
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect((where.hostname, where.port))
    return deaf


class Line:
    """A connection of a client."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, **message: Any) -> None:
        await self.connection.send(json.dumps(message))

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            message: dict[str, Any] = json.loads(await self.connection.recv())
        return message

    async def until(self, name: str) -> list[dict[str, Any]]:
        """Everything up to the event of this name."""
        messages = [await self.next()]
        while messages[-1]["event"] != name:
            messages.append(await self.next())
        return messages

    async def closed(self) -> int:
        """The code it was closed with."""
        async with asyncio.timeout(PATIENCE_S):
            await self.connection.wait_closed()
        assert self.connection.close_code is not None
        return self.connection.close_code
