"""The whole platform in one event loop: the application, a worker, SQLite, a real Valkey, and fake generators.

What Ray adds (processes, handles) is not here; everything else is the real part, wired by the application's own
factories. Use the fixture ``platform``, or ``start`` for settings of one's own.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

import httpx2
import yaml
from fastapi import FastAPI
from sqlalchemy import update
from structlog.typing import FilteringBoundLogger

from api.app import create_app
from api.auth.api_keys import NewKey
from api.auth.principal import ALL_SCOPES, Role, Scope
from api.ids import new_id
from api.services import Services
from api.settings import Settings
from api.store.schema import api_keys
from api.tracing import Tracing
from api.worker import create_worker
from tests.api.fakes import FakeGenerator, spec

Kind = Literal["owner", "other", "anonymous", "expired", "revoked"]
TIMEOUT_S = 30.0
PASSWORD = "correct horse battery staple"
SECRETS = {
    "secret_key": "of the tests, and of nothing else in the world",
    "master_keys": f"1:{base64.b64encode(bytes(range(32))).decode()}",
}
_TIERS = Path(__file__).resolve().parents[2] / "api" / "limits" / "tiers.yaml"


@dataclass
class Platform:
    """A running platform.

    Attributes:
        app: behind ``client``, in this event loop.
        generators: model id → what makes its music.
        accounts: "owner" and "other" → account ids.
    """

    app: FastAPI
    generators: Mapping[str, FakeGenerator]
    accounts: dict[str, str] = field(default_factory=dict)
    _clients: AsyncExitStack = field(default_factory=AsyncExitStack)
    _keys: dict[str, str] = field(default_factory=dict)

    @property
    def services(self) -> Services:
        services: Services = self.app.state.services
        return services

    async def connect(
        self, key: str | None = None, *, host: str = "198.51.100.7", base_url: str = "https://tutti.example"
    ) -> httpx2.AsyncClient:
        """A client with an API key or without; it is closed with the platform.

        Args:
            host: where it seems to come from. Development trusts 127.0.0.1 if it also calls this machine by its name.
        """
        transport = httpx2.ASGITransport(self.app, raise_app_exceptions=False, client=(host, 1234))
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        client = httpx2.AsyncClient(transport=transport, base_url=base_url, headers=headers, timeout=TIMEOUT_S)
        return await self._clients.enter_async_context(client)

    async def client(self, kind: Kind) -> httpx2.AsyncClient:
        """Who is asking: two accounts that may do everything to what is theirs, and three credentials of no use."""
        return await self.connect(await self.key_of(kind))

    async def account(self, role: Role = Role.USER, tier: str = "enterprise") -> str:
        """The id of a new account."""
        directory = self.services.accounts.directory
        account = await directory.create(f"{new_id('user')}@example.com", PASSWORD, "")
        await directory.set_tier(account.id, tier)
        if role is not Role.USER:
            await directory.set_role(account.id, role)
        return account.id

    async def key(self, account_id: str, scopes: frozenset[Scope] = ALL_SCOPES) -> str:
        """An API key of an account, readable."""
        made = await self.services.accounts.keys.create(account_id, NewKey("test", "live", scopes))
        return made.secret

    async def key_of(self, kind: Kind) -> str | None:
        """The readable key behind ``client``."""
        if kind == "anonymous":
            return None
        if kind not in self._keys:
            self._keys[kind] = await self._make_key(kind)
        return self._keys[kind]

    async def _make_key(self, kind: Kind) -> str:
        owner = "other" if kind == "other" else "owner"
        if owner not in self.accounts:
            self.accounts[owner] = await self.account()
        keys = self.services.accounts.keys
        made = await keys.create(self.accounts[owner], NewKey(kind, "live", ALL_SCOPES))
        if kind == "revoked":
            await keys.revoke(self.accounts[owner], made.key.id)
        if kind == "expired":
            past = self.services.clock() - timedelta(seconds=1)
            async with self.services.db.begin() as conn:
                await conn.execute(update(api_keys).where(api_keys.c.id == made.key.id).values(expires_at=past))
        return made.secret


@asynccontextmanager
async def start(
    *generators: FakeGenerator,
    database_url: str,
    redis_url: str,
    folder: Path,
    log: FilteringBoundLogger | None = None,
    max_duration_s: float = 30.0,
    tracing: Tracing | None = None,
    **settings: Any,
) -> AsyncIterator[Platform]:
    """Run a platform until the block ends; then everything of it has ended.

    Args:
        generators: of the models tiny and small; one of them if left out.
        database_url: of a database with the schema.
        folder: for audio and the like.
        max_duration_s: the models' longest track.
        settings: in production, unless ``environment`` says otherwise.
    """
    made = dict(zip(("tiny", "small"), generators or (FakeGenerator(),), strict=False))
    models = {name: spec(name, channels=one.channels, max_duration_s=max_duration_s) for name, one in made.items()}
    given = {"environment": "production", **SECRETS, "tiers_file": generous_tiers(folder), "data_dir": folder}
    urls = {"database_url": database_url, "redis_url": redis_url}
    configured = Settings(**{**given, **urls, **settings})
    app = create_app(made, models, configured, log=log, tracing=tracing)
    worker = create_worker(made, models, configured, log=log, tracing=tracing)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        platform = Platform(app, made)
        stack.push_async_exit(platform._clients)
        stack.push_async_callback(_ended, asyncio.create_task(worker.run()), worker.stop)
        yield platform


async def _ended(running: asyncio.Task[None], stop: Callable[[], Awaitable[None]]) -> None:
    await stop()
    async with asyncio.timeout(TIMEOUT_S):
        await running


def generous_tiers(folder: Path) -> Path:
    """The tiers as they are, but nobody asks too often: what tests look at is something else."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "tiers.yaml"
    file.write_text(_generous(), encoding="utf-8")
    return file


@cache
def _generous() -> str:
    tiers = yaml.safe_load(_TIERS.read_text(encoding="utf-8"))
    for tier in tiers["tiers"].values():
        tier["requests_per_minute"] = 1_000_000
    for rate in tiers["rates"].values():
        rate["limit"] = 1_000_000
    return str(yaml.safe_dump(tiers, sort_keys=False))


async def get(app: FastAPI, path: str, host: str = "localhost") -> httpx2.Response:
    """By somebody at this machine, unless the server is called by another name than its own."""
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=f"http://{host}") as client:
        return await client.get(path)
