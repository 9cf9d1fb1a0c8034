"""A webhook receiver that sometimes says no, and writes down every delivery."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Receiver:
    """What came.

    Attributes:
        url: where it listens.
        accepted: generation id → webhook ids that were answered with 2xx, in order.
        seen: generation id → every webhook id, refused ones included.
    """

    rng: random.Random
    refuse: float = 0.1
    url: str = ""
    accepted: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    seen: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Receiver]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
            writer.write(self._answer(headers["webhook-id"], body["data"]["id"]))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the sender was killed: it will come again
        finally:
            writer.close()

    def _answer(self, webhook_id: str, generation_id: str) -> bytes:
        # Once at most: the wait after a second refusal is minutes long.
        refused = generation_id not in self.seen and self.rng.random() < self.refuse
        self.seen[generation_id].add(webhook_id)
        if not refused:
            self.accepted[generation_id].append(webhook_id)
        status = b"503 Service Unavailable" if refused else b"204 No Content"
        return b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
