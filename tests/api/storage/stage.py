"""An application around a real database and a real store, in which a header says who asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx2
import structlog
from fastapi import APIRouter, FastAPI
from starlette.requests import HTTPConnection

from api import handlers
from api.auth.principal import ALL_SCOPES, Principal, Role, Scope
from api.middleware import RequestContext
from api.settings import Settings
from api.storage.audio import AudioLibrary
from api.storage.objects import ObjectStore
from api.storage.vault import Vault
from api.store.database import Database
from api.telemetry.compose import make_telemetry

WHO = "X-Test-Account"


class MovableClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class HeaderAccounts:
    """Believes the header. ``scopes`` is what every credential has."""

    scopes: frozenset[Scope] = ALL_SCOPES

    async def authenticate(self, connection: HTTPConnection) -> Principal:
        return Principal(connection.headers[WHO], Role.USER, "free", self.scopes, "api_key")


@dataclass
class CountingRates:
    """Writes down what is counted, and refuses with ``refusal`` if it is set."""

    hits: list[tuple[str, str]] = field(default_factory=list)
    refusal: Exception | None = None

    async def hit(self, kind: str, key: str) -> None:
        self.hits.append((kind, key))
        if self.refusal is not None:
            raise self.refusal


@dataclass
class Stage:
    """What a test of a route works with."""

    database: Database
    objects: ObjectStore
    library: AudioLibrary
    settings: Settings
    clock: MovableClock = field(default_factory=MovableClock)
    accounts: HeaderAccounts = field(default_factory=HeaderAccounts)
    rates: CountingRates = field(default_factory=CountingRates)
    log: structlog.testing.LogCapture = field(default_factory=structlog.testing.LogCapture)

    @classmethod
    def of(cls, database: Database, **settings: Any) -> Stage:
        clock = MovableClock()
        objects = ObjectStore.from_url("memory:///")
        library = AudioLibrary(objects, Vault(database, {"m1": bytes(32)}, clock))
        return cls(database, objects, library, Settings(**settings), clock)

    def services(self, **more: Any) -> Any:
        filtering = structlog.make_filtering_bound_logger(0)
        logger: Any = structlog.wrap_logger(None, processors=[self.log], wrapper_class=filtering)
        return SimpleNamespace(
            db=self.database,
            objects=self.objects,
            audio=self.library,
            clock=self.clock,
            accounts=self.accounts,
            limits=SimpleNamespace(rates=self.rates),
            settings=self.settings,
            telemetry=make_telemetry("ingress", self.clock),
            log=logger.bind(),
            **more,
        )

    def app(self, *routers: APIRouter, limit: Callable[[FastAPI], None] | None = None, **more: Any) -> FastAPI:
        app = FastAPI(redirect_slashes=False)
        app.state.services = self.services(**more)
        handlers.install(app)
        for router in routers:
            app.include_router(router)
        if limit is not None:
            limit(app)
        app.add_middleware(RequestContext, services=app.state.services)
        return app

    @asynccontextmanager
    async def client(self, app: FastAPI, account_id: str) -> AsyncIterator[httpx2.AsyncClient]:
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        headers = {WHO: account_id}
        async with httpx2.AsyncClient(transport=transport, base_url="http://tutti", headers=headers) as client:
            yield client
