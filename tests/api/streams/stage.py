"""Gateways and workers around one database, one Valkey and one store, in this event loop."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
import numpy as np
import structlog
from fastapi import FastAPI

from api.app import create_app
from api.auth.principal import ALL_SCOPES, Principal, Role
from api.foundation import Foundation
from api.generations.timing import Timing
from api.generations.view import CreateGeneration, GenerationView
from api.generations.worker import Worker
from api.ids import new_id
from api.services import Services
from api.settings import Settings
from api.streams.pieces import Piece
from api.streams.writer import FeedWriter
from api.tasks import stop
from tests.api.asgi import Exchange
from tests.api.fakes import SAMPLE_RATE, FakeGenerator, sine, spec

PATIENCE_S = 30.0
QUICK = Timing(lease_s=2.0, heartbeat_s=0.1, poll_s=0.1, housekeeping_s=0.1, drain_s=0.2, retry_s=0.02)


@dataclass
class Stage:
    """
    Attributes:
        slots: tracks of each model at once, in each worker.
        gateways: applications that know nothing of each other but the database, the cache and the store.
    """

    settings: Settings
    generators: dict[str, FakeGenerator]
    log: structlog.testing.LogCapture
    slots: int = 64
    gateways: list[FastAPI] = field(default_factory=list)
    open: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def app(self) -> FastAPI:
        return self.gateways[0]

    @property
    def services(self) -> Services:
        services: Services = self.app.state.services
        return services

    @property
    def writer(self) -> FeedWriter:
        return FeedWriter(self.services.cache, self.services.bus)

    async def gateway(self) -> FastAPI:
        """One more, with connections of its own."""
        specs = {
            name: spec(name, channels=generator.channels, max_duration_s=600.0)
            for name, generator in self.generators.items()
        }
        wrapper = structlog.make_filtering_bound_logger(0)
        logger: Any = structlog.wrap_logger(None, processors=[self.log], wrapper_class=wrapper)
        app = create_app(self.generators, specs, self.settings, log=logger.bind())
        await self.open.enter_async_context(app.router.lifespan_context(app))
        self.gateways.append(app)
        return app

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Worker]:
        """A worker; stopped at the end, and what is still held up is given back."""
        async with self._worker() as (worker, running):
            yield worker
            await worker.stop()
            async with asyncio.timeout(PATIENCE_S):
                await running

    @asynccontextmanager
    async def dying(self) -> AsyncIterator[Worker]:
        """A worker that writes nothing at the end, as if its process had been killed."""
        async with self._worker() as (worker, _):
            yield worker

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[tuple[Worker, asyncio.Task[None]]]:
        base = Foundation.build(self.settings)
        logger: Any = structlog.wrap_logger(
            None, processors=[self.log], wrapper_class=structlog.make_filtering_bound_logger(0)
        )
        feed = FeedWriter(base.cache, base.bus)
        worker = Worker(
            base.db, base.bus, feed, base.audio, self.generators, dict.fromkeys(self.generators, self.slots),
            base.limits.tiers, base.clock, logger.bind(), timing=QUICK,
        )  # fmt: skip
        async with base.closing():
            running = asyncio.create_task(worker.run())
            try:
                yield worker, running
            finally:
                await stop(running)

    def client(self, number: int = 0) -> httpx2.AsyncClient:
        """Of a person at this machine, who sees what a real client would see."""
        transport = httpx2.ASGITransport(self.gateways[number], raise_app_exceptions=False)
        return httpx2.AsyncClient(transport=transport, base_url="http://localhost", timeout=PATIENCE_S)

    async def account(self) -> Principal:
        account = await self.services.accounts.directory.create(f"{new_id('user')}@example.com", "long enough 1234", "")
        await self.services.accounts.directory.set_tier(account.id, "enterprise")
        return Principal(account.id, Role.USER, "enterprise", ALL_SCOPES, "token")

    async def local(self) -> Principal:
        """Who asks from this machine without a credential."""
        exchange = Exchange(self.app, path="/api/v1/user/profile", method="GET").start()
        await exchange.finish()
        return Principal(json.loads(exchange.body)["id"], Role.USER, "enterprise", ALL_SCOPES, "local")

    async def create(self, principal: Principal | None = None, **values: Any) -> GenerationView:
        """A generation that waits for a worker; of the local account unless it says whose."""
        wish = replace(CreateGeneration("a tune", duration_s=2.0, seed=1), **values)
        principal = principal or await self.local()
        made = await self.services.generations.create(principal, wish, mode="async", request_id=new_id("req"))
        return made.view

    async def ended(self, generation_id: str) -> GenerationView:
        """Until it is in a terminal state."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                view = await self.services.generations.snapshot(generation_id)
                assert view is not None
                if view.is_terminal:
                    return view
                await asyncio.sleep(0.01)

    async def flush(self) -> None:
        await self.services.cache.redis.flushall()


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Until it is true, of something that rings no bell."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            seen = condition()
            if seen if isinstance(seen, bool) else await seen:
                return
            await asyncio.sleep(0.005)


def track(seed: int, seconds: float, channels: int = 1) -> bytes:
    """All samples of a fake track, as the pieces have them."""
    return bytes(np.rint(sine(seed, int(seconds * SAMPLE_RATE), channels) * 32767).astype("<i2").tobytes())


def joined(pieces: list[Piece]) -> bytes:
    return b"".join(piece.pcm for piece in pieces)


@dataclass(frozen=True)
class Told:
    """An event as a client sees it."""

    name: str
    data: Any
    id: str | None


def parse_sse(body: bytes) -> list[Told]:
    """The events of a stream, its last unfinished one left out."""
    events: list[Told] = []
    for block in body.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            events.append(Told(fields["event"], json.loads(fields["data"]), fields.get("id")))
    return events


def audio_of(events: list[Told], position: int = 0) -> bytes:
    """What the ``audio`` events of one track hold, each checked to follow the one before."""
    sound = [event.data for event in events if event.name == "audio" and event.data["track"] == position]
    assert [each["index"] for each in sound] == list(range(sound[0]["index"], sound[0]["index"] + len(sound)))
    return b"".join(base64.b64decode(each["data"]) for each in sound)
