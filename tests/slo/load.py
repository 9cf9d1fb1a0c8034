"""The load of a run: clients of three tiers who stream and order music, and what each of them saw."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import httpx2
import yaml
from sqlalchemy import update

from api.store.database import Database
from api.store.schema import accounts
from benchmarks.api.arrivals import open_loop
from benchmarks.serve_load.calls import Sender
from benchmarks.serve_load.plan import Mode, Planned, Workload, build
from benchmarks.serve_load.server import Server
from tests.crash.cluster import Cluster
from tests.slo.truth import Heard

TIERS = {"enterprise": 0.5, "pro": 0.3, "free": 0.2}
MODES: dict[Mode, float] = {"stream": 0.7, "async": 0.3}
LENGTHS_S = {1.0: 0.4, 2.0: 0.4, 4.0: 0.2}
TIMEOUT_S = 120.0
_LIMITS = ("generations_per_hour", "generations_per_day", "audio_s_per_day", "listeners")


def tiers_file(source: str) -> str:
    """The tiers as they are, without what limits a single account: the load of many comes from three."""
    config = yaml.safe_load(source)
    for tier in config["tiers"].values():
        tier.update(dict.fromkeys(_LIMITS), running=1000, queued=10_000, requests_per_minute=1_000_000)
    for rate in config["rates"].values():
        rate["limit"] = 1_000_000
    return str(yaml.safe_dump(config, sort_keys=False))


async def sign_up(cluster: Cluster) -> dict[str, list[str | None]]:
    """An account of each tier, registered as anybody would: tier → its API key."""
    keys: dict[str, list[str | None]] = {}
    database = Database.connect(f"sqlite+aiosqlite:///{cluster.data / 'tutti.db'}")
    async with httpx2.AsyncClient(base_url=cluster.url, timeout=60, trust_env=False) as http:
        for tier in TIERS:
            login = {"email": f"{tier}@example.com", "password": f"a long password of the {tier} tier"}
            grant = (await http.post("/api/v1/auth/register", json=login)).raise_for_status().json()
            async with database.begin() as conn:
                mine = accounts.c.id == grant["account_id"]
                await conn.execute(update(accounts).where(mine).values(tier=tier))
            session = {"Authorization": f"Bearer {grant['access_token']}"}
            made = await http.post("/api/v1/user/api-keys", json={"name": "load"}, headers=session)
            keys[tier] = [made.raise_for_status().json()["key"]]
    await database.close()
    return keys


@dataclass
class Load:
    """Sends schedules, any number side by side.

    Attributes:
        heard: of every request that has ended.
        lag_s: how late each was sent.
    """

    url: str
    keys: dict[str, list[str | None]]
    seed: int = 0
    heard: list[Heard] = field(default_factory=list)
    lag_s: list[float] = field(default_factory=list)

    async def send(
        self,
        rate: float,
        seconds: float,
        *,
        tiers: dict[str, float] | None = None,
        length_s: float | None = None,
        mode: Mode = "stream",
    ) -> None:
        """Requests at random times, so many a second; returns when the last one has its answer.

        Args:
            length_s: requests of this length and ``mode`` only; None: the usual mix of both.
        """
        lengths = LENGTHS_S if length_s is None else {length_s: 1.0}
        modes: dict[Mode, float] = MODES if length_s is None else {mode: 1.0}
        workload = Workload(
            "poisson",
            rate,
            seconds,
            self.seed,
            tiers=tiers or TIERS,
            modes=modes,
            lengths_s=lengths,
        )
        self.seed += 1
        planned = build(workload).requests
        server = Server(self.url)
        sender = Sender(server, self.keys, TIMEOUT_S)

        async def one(number: int, intended: float) -> None:
            await self._one(sender, planned[number], intended)

        try:
            await open_loop([each.at_s for each in planned], one)
        finally:
            server.close()

    async def _one(self, sender: Sender, planned: Planned, intended: float) -> None:
        outcome = await sender.send(planned, intended)
        self.lag_s.append(outcome.lag_s)
        # A refusal has no length of its own: it was counted when the answer was sent, which is now.
        self.heard.append(Heard.of(outcome, time.time()))


async def warm_up(load: Load, count: int = 6) -> None:
    """The first requests, which nobody measures: caches fill and code is imported."""
    await load.send(2.0, count / 2)
    load.heard.clear()
    load.lag_s.clear()
    await asyncio.sleep(0)
