"""One platform around fake generators: real databases, a real Valkey, real storage in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from sqlalchemy import insert, select, update

from api.auth.principal import ALL_SCOPES, Principal, Role
from api.cache.bus import Bus
from api.cache.client import Cache
from api.clock import Clock, utc_now
from api.generations import retries
from api.generations.service import GenerationService
from api.generations.timing import Timing
from api.generations.view import CreateGeneration, GenerationView, State
from api.generations.worker import Worker
from api.ids import new_id
from api.limits import Limits
from api.settings import Settings
from api.storage.audio import AudioLibrary
from api.storage.objects import ObjectStore
from api.storage.vault import Vault
from api.store.database import Database
from api.store.schema import accounts, generations, outbox, tracks, usage_windows
from api.streams.writer import FeedWriter
from tests.api.fakes import FakeGenerator, spec

PATIENCE_S = 30.0
MODELS = {"tiny": spec("tiny"), "small": spec("small", channels=2)}
QUICK = Timing(heartbeat_s=0.1, poll_s=0.1, housekeeping_s=0.1, drain_s=PATIENCE_S, retry_s=0.02)


@dataclass
class ManualClock:
    """Stands still unless moved."""

    now: datetime = datetime(2030, 5, 6, 7, 8, 9, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Until it is true."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            seen = condition()
            if seen if isinstance(seen, bool) else await seen:
                return
            await asyncio.sleep(0.01)


@dataclass
class Bench:
    """Everything between a principal and a generator."""

    db: Database
    cache: Cache
    bus: Bus
    clock: Clock
    settings: Settings
    limits: Limits
    service: GenerationService
    feed: FeedWriter
    audio: AudioLibrary
    objects: ObjectStore
    log: Any
    entries: list[Any]
    generators: dict[str, FakeGenerator] = field(
        default_factory=lambda: {"tiny": FakeGenerator(), "small": FakeGenerator(channels=2)}
    )
    slots: dict[str, int] = field(default_factory=lambda: {"tiny": 8, "small": 8})

    @property
    def tiny(self) -> FakeGenerator:
        return self.generators["tiny"]

    async def account(self, tier: str = "pro", **values: Any) -> Principal:
        account_id = new_id("acc")
        async with self.db.begin() as conn:
            await conn.execute(insert(accounts).values(id=account_id, tier=tier, created_at=self.clock(), **values))
        return Principal(account_id, Role.USER, tier, ALL_SCOPES, "token")

    async def create(self, principal: Principal, **values: Any) -> GenerationView:
        mode = values.pop("mode", "async")
        wish = replace(CreateGeneration("a tune", duration_s=1.0), **values)
        return (await self.service.create(principal, wish, mode=mode, request_id=new_id("req"))).view

    def worker(self, **values: Any) -> Worker:
        given: dict[str, Any] = {
            "db": self.db,
            "bus": self.bus,
            "feed": self.feed,
            "audio": self.audio,
            "backends": self.generators,
            "slots": self.slots,
            "tiers": self.limits.tiers,
            "clock": self.clock,
            "log": self.log,
            "timing": QUICK,
        }
        return Worker(**{**given, **values})

    @asynccontextmanager
    async def working(self, **values: Any) -> AsyncIterator[Worker]:
        """A worker that runs meanwhile, and is stopped gracefully at the end."""
        worker = self.worker(**values)
        running = asyncio.create_task(worker.run())
        try:
            yield worker
            await worker.stop()
            async with asyncio.timeout(PATIENCE_S):
                await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def expire_now(self, generation_id: str) -> None:
        """Its time in the queue is over."""
        async with self.db.begin() as conn:
            of = generations.c.id == generation_id
            await conn.execute(update(generations).where(of).values(expires_at=self.clock()))

    async def look(self, generation_id: str) -> GenerationView:
        view = await self.service.snapshot(generation_id)
        assert view is not None
        return view

    async def until(self, generation_id: str, *states: State) -> GenerationView:
        """Until it is in one of these states; without any, until it has ended."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                view = await self.look(generation_id)
                if view.state in states or (not states and view.is_terminal):
                    return view
                await asyncio.sleep(0.01)

    async def until_version(self, generation_id: str, version: int) -> None:
        async def seen() -> bool:
            return (await self.look(generation_id)).version >= version

        await eventually(seen)

    async def reached(self, index: int) -> None:
        """Until a track of the tiny model stands before its chunk ``index``, held there by ``hold``."""
        async with asyncio.timeout(PATIENCE_S):
            await self.tiny.reached[index].wait()

    async def row(self, generation_id: str) -> Mapping[str, Any]:
        async with self.db.read() as conn:
            found = await conn.execute(select(generations).where(generations.c.id == generation_id))
            return dict(found.mappings().one())

    async def account_row(self, principal: Principal) -> Mapping[str, Any]:
        async with self.db.read() as conn:
            found = await conn.execute(select(accounts).where(accounts.c.id == principal.account_id))
            return dict(found.mappings().one())

    async def used(self, principal: Principal) -> int:
        """Generations counted in this hour."""
        async with self.db.read() as conn:
            windows = usage_windows.c
            of = (windows.account_id == principal.account_id, windows.window == "hour")
            return int((await conn.execute(select(windows.generations).where(*of))).scalar() or 0)

    async def events(self, generation_id: str) -> list[str]:
        """Types of the webhook events left behind."""
        return [each["type"] for each in await self.outbox("webhook.event") if each["generation_id"] == generation_id]

    async def outbox(self, kind: str) -> list[Any]:
        async with self.db.read() as conn:
            found = await conn.execute(select(outbox.c.payload).where(outbox.c.kind == kind).order_by(outbox.c.id))
            return list(found.scalars())

    async def track_rows(self, generation_id: str) -> list[Mapping[str, Any]]:
        async with self.db.read() as conn:
            of = tracks.c.generation_id == generation_id
            found = await conn.execute(select(tracks).where(of).order_by(tracks.c.position))
            return [dict(each) for each in found.mappings()]


MakeBench = Callable[..., Bench]


@pytest.fixture
async def make_bench(database: Database, cache: Cache, tmp_path: Any) -> AsyncIterator[MakeBench]:
    buses: list[Bus] = []
    closing: list[Callable[[], Any]] = []

    def make(clock: Clock = utc_now, **settings: Any) -> Bench:
        capture = structlog.testing.LogCapture()
        log: Any = structlog.wrap_logger(
            None, processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(0)
        ).bind()
        given = Settings(data_dir=tmp_path, **settings)
        bus = Bus(cache)
        buses.append(bus)
        limits = Limits(given, cache, clock)
        service = GenerationService(database, bus, limits, MODELS, given, clock)
        closing.extend([service.close, limits.close])
        objects = ObjectStore.from_url("memory:///")
        vault = Vault(database, {"k1": bytes(32)}, clock)
        return Bench(
            database, cache, bus, clock, given, limits, service, FeedWriter(cache, bus),
            AudioLibrary(objects, vault), objects, log, capture.entries,
        )  # fmt: skip

    yield make
    for close in closing:
        await close()
    for bus in buses:
        await bus.close()


@pytest.fixture
async def bench(make_bench: MakeBench) -> Bench:
    return make_bench()


@pytest.fixture
def manual_clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr(retries, "_BACKOFF_S", (0.0, 0.0, 0.0))
