"""The account routes in an application of their own: real database, real cache, a clock that tests move."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
import structlog
from fastapi import Depends, FastAPI

from api import handlers
from api.auth.policy import policies, require
from api.auth.principal import Principal, Role, Scope
from api.auth.service import AccountService
from api.cache.client import Cache
from api.limits import Limits
from api.limits.headers import RateHeaders
from api.middleware import RequestContext
from api.routes import account, auth
from api.settings import Settings
from api.store.database import Database
from api.telemetry.compose import make_telemetry
from tests.api.auth.calls import client

Connect = Callable[..., Any]


class ManualClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 31, 22, 40, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Platform:
    """One gateway's accounts."""

    db: Database
    settings: Settings
    accounts: AccountService
    limits: Limits
    app: FastAPI


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def make_platform(
    database: Database, cache: Cache, clock: ManualClock, tmp_path: Path
) -> AsyncIterator[Callable[..., Platform]]:
    """A gateway; several share database, cache and secrets. Keyword arguments are settings."""
    made: list[Platform] = []

    def make(**values: Any) -> Platform:
        settings = Settings(data_dir=tmp_path, **values)
        limits = Limits(settings, cache, clock)
        accounts = AccountService(database, settings, clock, limits)
        made.append(Platform(database, settings, accounts, limits, _app(accounts, limits, settings, clock)))
        return made[-1]

    yield make
    for platform in made:
        await platform.accounts.close()
        await platform.limits.close()


@pytest.fixture
def platform(make_platform: Callable[..., Platform]) -> Platform:
    """Production, in which nobody gets in without a credential."""
    return make_platform(**production())


@pytest.fixture
def connect(platform: Platform) -> Connect:
    """An HTTP client of ``platform``, far away; keyword arguments are headers."""
    return lambda **headers: client(platform, **headers)


def production(**values: Any) -> dict[str, Any]:
    secrets = {"secret_key": "s" * 40, "master_keys": "1:" + base64.b64encode(b"m" * 32).decode()}
    return {"environment": "production", **secrets, **values}


def _app(accounts: AccountService, limits: Limits, settings: Settings, clock: ManualClock) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None)
    log = structlog.wrap_logger(None, processors=[structlog.testing.LogCapture()])
    services: Any = SimpleNamespace(
        accounts=accounts,
        limits=limits,
        settings=settings,
        clock=clock,
        telemetry=make_telemetry("ingress", clock),
        log=log,
    )
    app.state.services = services
    handlers.install(app)
    app.include_router(auth.router)
    app.include_router(account.router)
    if accounts.development:
        app.include_router(auth.make_development_router())

    @app.post("/write")
    async def write(principal: Annotated[Principal, Depends(require(Scope.AUDIO_WRITE))]) -> dict[str, Any]:
        return {"account": principal.account_id, "kind": principal.kind, "test": principal.test_mode}

    @app.get("/admin")
    async def admin(principal: Annotated[Principal, Depends(require(role=Role.ADMIN))]) -> None: ...

    policies(app)
    app.add_middleware(RateHeaders)
    app.add_middleware(RequestContext, services=services)
    return app
