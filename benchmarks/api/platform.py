"""The platform as processes of its own: a gateway, a worker, a Valkey, SQLite in a folder that is removed again."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import yaml
from sqlalchemy import insert

from api.auth.api_keys import NewKey
from api.auth.principal import ALL_SCOPES
from api.auth.service import AccountService
from api.cache.embedded import EmbeddedValkey
from api.clock import utc_now
from api.foundation import Foundation
from api.ids import new_id
from api.limits.tiers import TIERS_FILE
from api.settings import Settings
from api.store.database import Database, migrate
from api.store.schema import accounts

REPOSITORY = Path(__file__).resolve().parents[2]
TIER = "enterprise"
START_TIMEOUT_S = 180.0  # a machine that others use, too
STOP_TIMEOUT_S = 20.0
UNLIMITED: dict[str, Any] = {
    "requests_per_minute": 10**9,
    "generations_per_hour": None,
    "generations_per_day": None,
    "audio_s_per_day": None,
    "queued": 100_000,
    "running": 10_000,
    "listeners": None,
}
"""For a tier: what is measured is the platform, not what one account may ask of it."""


@dataclass(frozen=True)
class Load:
    """How the platform is set up.

    Attributes:
        speed: seconds of audio per second, of each track.
        slots: tracks at once.
        max_wait_s: what would wait longer is refused at the door.
        tenants: accounts of each tier, each with a key.
        tiers: names of the tiers file.
        environment: further variables of both processes.
    """

    speed: float
    slots: int
    max_wait_s: float = 10_000.0
    tenants: int = 50
    tiers: tuple[str, ...] = (TIER,)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Process:
    """What Linux says of one."""

    pid: int

    def rss_mb(self) -> float:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def cpu_s(self) -> float:
        """Processor time so far, of all threads."""
        # Behind the name, which may hold spaces: user and system time are fields 14 and 15 of the line.
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Running:
    """A platform that runs.

    Attributes:
        keys: one API key of each account; ``tier_keys`` the same by tier.
        db: of this process, for the books.
    """

    port: int
    tier_keys: dict[str, list[str]]
    db: Database
    gateway: Process
    worker: Process

    @property
    def keys(self) -> list[str]:
        return [key for keys in self.tier_keys.values() for key in keys]

    def rss_mb(self) -> float:
        """Of the gateway."""
        return self.gateway.rss_mb()

    def cpu_s(self) -> dict[str, float]:
        """Processor time so far, of each process, this one included."""
        named = {"gateway": self.gateway, "worker": self.worker, "client": Process(os.getpid())}
        return {name: process.cpu_s() for name, process in named.items()}


@asynccontextmanager
async def platform(load: Load) -> AsyncIterator[Running]:
    """Start it, wait until it is ready, and stop all of it at the end.

    Raises:
        RuntimeError: it did not become ready; the message holds the end of its log.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tutti-bench-")))
        valkey = stack.enter_context(EmbeddedValkey())
        changes = {**UNLIMITED, "max_wait_s": load.max_wait_s, "queue_expiry_s": 20_000.0}
        environment = {
            **make_environment(folder, valkey.url, dict.fromkeys(load.tiers, changes)),
            "TUTTI_WORKER_SLOTS": str(load.slots),
            "TUTTI_WORKER_DRAIN_S": "0",
            **load.environment,
        }
        settings = settings_of(environment)
        await migrate(settings.database_url)
        keys = {tier: await make_keys(settings, tier, load.tenants) for tier in load.tiers}
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
        part = [sys.executable, "-m", "benchmarks.api.serve"]
        started = {
            "gateway": stack.enter_context(
                start_process(
                    [*part, "gateway", "--fd", str(listening.fileno())], environment, folder, listening.fileno()
                )
            ),
            "worker": stack.enter_context(
                start_process([*part, "worker", "--speed", str(load.speed)], environment, folder, None)
            ),
        }
        port = listening.getsockname()[1]
        await until_ready(port, started, folder)
        db = Database.connect(settings.database_url)
        stack.push_async_callback(db.close)
        yield Running(port, keys, db, **{name: Process(one.pid) for name, one in started.items()})


def make_environment(folder: Path, redis_url: str, changes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Variables of a platform in production that keeps everything in a folder.

    Args:
        changes: what tiers may do, by name, instead of what the tiers file says.
    """
    tiers = yaml.safe_load(TIERS_FILE.read_text(encoding="utf-8"))
    for name, values in changes.items():
        tiers["tiers"][name] |= values
    file = folder / "tiers.yaml"
    file.write_text(yaml.safe_dump(tiers, sort_keys=False), encoding="utf-8")
    return {
        "TUTTI_ENVIRONMENT": "production",
        "TUTTI_SECRET_KEY": secrets.token_hex(32),
        "TUTTI_MASTER_KEYS": f"1:{base64.b64encode(secrets.token_bytes(32)).decode()}",
        "TUTTI_DATA_DIR": str(folder),
        "TUTTI_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/tutti.db",
        "TUTTI_STORAGE_URL": (folder / "audio").as_uri(),
        "TUTTI_REDIS_URL": redis_url,
        "TUTTI_TIERS_FILE": str(file),
    }


def settings_of(environment: Mapping[str, str]) -> Settings:
    return Settings(**{name.removeprefix("TUTTI_").lower(): value for name, value in environment.items()})


async def make_keys(settings: Settings, tier: str, count: int) -> list[str]:
    """So many new accounts of a tier, and a key of each."""
    names, now = [new_id("acc") for _ in range(count)], utc_now()
    async with Foundation.build(settings).closing() as base:
        async with base.db.begin() as conn:
            await conn.execute(insert(accounts), [{"id": name, "tier": tier, "created_at": now} for name in names])
        keys = AccountService(base.db, base.settings, base.clock, base.limits).keys
        return [(await keys.create(name, NewKey("bench", "live", ALL_SCOPES))).secret for name in names]


@contextmanager
def start_process(
    command: list[str],
    environment: Mapping[str, str],
    folder: Path,
    fd: int | None,
    stop_timeout_s: float = STOP_TIMEOUT_S,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process until the block ends; what it says goes to ``log`` in the folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TUTTI_")}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**inherited, **environment},
            stdout=log,
            stderr=log,
            pass_fds=() if fd is None else (fd,),
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(stop_timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def until_ready(
    port: int, started: Mapping[str, subprocess.Popen[bytes]], folder: Path, timeout_s: float = START_TIMEOUT_S
) -> None:
    """The gateway sees database, cache, storage and worker.

    Raises:
        RuntimeError: a process has ended, or it took too long; the message holds the end of the log.
    """
    try:
        async with (
            asyncio.timeout(timeout_s),
            httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=timeout_s) as client,
        ):
            while not await _is_ready(client):
                if any(process.poll() is not None for process in started.values()):
                    raise RuntimeError(f"the platform ended while it started: {_end_of(folder / 'log')}")
                await asyncio.sleep(0.1)
    except (TimeoutError, httpx2.HTTPError) as error:
        raise RuntimeError(f"the platform did not become ready ({error!r}): {_end_of(folder / 'log')}") from error


async def _is_ready(client: httpx2.AsyncClient) -> bool:
    try:
        return (await client.get("/health/ready")).status_code == 200
    except httpx2.TransportError:
        return False  # it does not listen yet, or somebody else does: then the process ends, and its log says why


def _end_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]
