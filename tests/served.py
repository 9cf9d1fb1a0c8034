"""The whole platform behind a real server on the loopback interface, in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from api.cache.embedded import EmbeddedValkey
from api.store.database import migrate
from tests.api.fakes import FakeGenerator
from tests.api.platform import TIMEOUT_S, Platform, start


class Door(Protocol):
    """What stands before an application and decides what goes in and out."""

    app: ASGIApp | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


@dataclass
class Served:
    """A platform in production in a thread of its own."""

    url: str
    key: str
    platform: Platform

    async def last_has_ended(self) -> None:
        """For the server's thread: until the one generation that there is has been stored."""
        client = await self.platform.connect(self.key)
        (track,) = (await client.get("/api/v1/audio")).json()["data"]
        done = await client.get(f"/api/v1/generate/{track['generation_id']}", headers={"Prefer": "wait=30"})
        assert done.json()["state"] == "succeeded"


@contextmanager
def serving(
    valkey: EmbeddedValkey, folder: Path, generator: FakeGenerator, door: Door | None = None
) -> Iterator[Served]:
    """Run it until the block ends.

    Args:
        folder: for the database and the audio.
        door: stands before the application; its ``app`` is set to that.
    """
    ready: list[Served] = []
    listens, stop = threading.Event(), threading.Event()

    async def run() -> None:
        database_url = f"sqlite+aiosqlite:///{folder / 'tutti.db'}"
        await migrate(database_url)
        async with start(generator, database_url=database_url, redis_url=valkey.url, folder=folder) as platform:
            if door is not None:
                door.app = platform.app
            server = uvicorn.Server(uvicorn.Config(door or platform.app, log_config=None, lifespan="off"))
            with socket.create_server(("127.0.0.1", 0)) as listening:
                running = asyncio.create_task(server.serve(sockets=[listening]))
                url = f"http://127.0.0.1:{listening.getsockname()[1]}"
                ready.append(Served(url, await platform.key(await platform.account()), platform))
                listens.set()
                await asyncio.to_thread(stop.wait)
                server.should_exit = True
                await running

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert listens.wait(TIMEOUT_S)
        yield ready[0]
    finally:
        stop.set()
        thread.join(TIMEOUT_S)
