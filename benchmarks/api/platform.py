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
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

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
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Load:
    """How the platform is set up.

    Attributes:
        speed: seconds of audio per second, of each track.
        slots: tracks at once.
        max_wait_s: what would wait longer is refused at the door.
        tenants: accounts, each with a key.
    """

    speed: float
    slots: int
    max_wait_s: float = 10_000.0
    tenants: int = 50


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
        keys: one API key of each account.
        db: of this process, for the books.
    """

    port: int
    keys: list[str]
    db: Database
    gateway: Process
    worker: Process

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
        environment = _environment(folder, valkey.url, load)
        settings = Settings(**{name.removeprefix("TUTTI_").lower(): value for name, value in environment.items()})
        await migrate(settings.database_url)
        keys = await _accounts(settings, load.tenants)
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
        part = [sys.executable, "-m", "benchmarks.api.serve"]
        started = {
            "gateway": stack.enter_context(
                _process([*part, "gateway", "--fd", str(listening.fileno())], environment, folder, listening.fileno())
            ),
            "worker": stack.enter_context(
                _process([*part, "worker", "--speed", str(load.speed)], environment, folder, None)
            ),
        }
        port = listening.getsockname()[1]
        await _ready(port, started, folder)
        db = Database.connect(settings.database_url)
        stack.push_async_callback(db.close)
        yield Running(port, keys, db, **{name: Process(one.pid) for name, one in started.items()})


def _environment(folder: Path, redis_url: str, load: Load) -> dict[str, str]:
    tiers = yaml.safe_load(TIERS_FILE.read_text(encoding="utf-8"))
    # What is measured is the platform, not what one account may ask of it.
    wide = {"requests_per_minute": 10**9, "queued": 100_000, "running": 10_000}
    tiers["tiers"][TIER] |= {**wide, "max_wait_s": load.max_wait_s, "queue_expiry_s": 20_000.0}
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
        "TUTTI_WORKER_SLOTS": str(load.slots),
        "TUTTI_WORKER_DRAIN_S": "0",
    }


async def _accounts(settings: Settings, count: int) -> list[str]:
    names, now = [new_id("acc") for _ in range(count)], utc_now()
    async with Foundation.build(settings).closing() as base:
        async with base.db.begin() as conn:
            await conn.execute(insert(accounts), [{"id": name, "tier": TIER, "created_at": now} for name in names])
        keys = AccountService(base.db, base.settings, base.clock, base.limits).keys
        return [(await keys.create(name, NewKey("bench", "live", ALL_SCOPES))).secret for name in names]


@contextmanager
def _process(
    command: list[str], environment: dict[str, str], folder: Path, fd: int | None
) -> Iterator[subprocess.Popen[bytes]]:
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
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _ready(port: int, started: dict[str, subprocess.Popen[bytes]], folder: Path) -> None:
    """The gateway sees database, cache, storage and worker."""
    try:
        async with (
            asyncio.timeout(START_TIMEOUT_S),
            httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=START_TIMEOUT_S) as client,
        ):
            while (await client.get("/health/ready")).status_code != 200:
                if any(process.poll() is not None for process in started.values()):
                    raise RuntimeError(f"the platform ended while it started: {_end_of(folder / 'log')}")
                await asyncio.sleep(0.1)
    except (TimeoutError, httpx2.HTTPError) as error:
        raise RuntimeError(f"the platform did not become ready ({error!r}): {_end_of(folder / 'log')}") from error


def _end_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]
