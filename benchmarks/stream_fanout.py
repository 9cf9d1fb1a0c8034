"""What listeners cost a gateway: memory of each, CPU, and how long after it was made a piece of audio has left.

    python -m benchmarks.stream_fanout                          # 2,000 listeners of one track's events with audio
    python -m benchmarks.stream_fanout --listeners 5000 --states

One process plays all parts: the application with a real Valkey and SQLite, a writer that makes one track as fast as it
plays, and listeners that are ASGI calls whose ``send`` takes everything at once. There are no sockets: what they cost
is the server's, and comes on top.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from starlette.types import Message

from api.app import create_app
from api.auth.authenticator import LOCAL_ACCOUNT
from api.auth.principal import ALL_SCOPES, Principal, Role
from api.backend import Backend
from api.cache.embedded import EmbeddedValkey
from api.generations.view import CreateGeneration, GenerationView
from api.ids import new_id
from api.services import Services
from api.settings import Settings
from api.store.database import migrate
from api.streams.pieces import PIECE_S
from api.streams.writer import FeedWriter
from models.catalog import ModelSpec
from models.types import AudioChunk, GenerationRequest

SAMPLE_RATE = 32_000
_JOINING_AT_ONCE = 20
_PIECE_SAMPLES = round(SAMPLE_RATE * PIECE_S)


class NoBackend:
    """The gateway only asks whether it is ready."""

    def generate(self, request: GenerationRequest) -> AsyncIterator[AudioChunk]:
        raise NotImplementedError

    async def ready(self) -> bool:
        return True

    async def replicas(self) -> int:
        return 1


class Listener:
    """One client at this machine. Notes when each piece arrived.

    Args:
        written_at: when each piece was handed to the writer, by ``time.perf_counter``.
        due: how many pieces it waits for.
    """

    def __init__(self, written_at: list[float], due: int = 0) -> None:
        self._written_at = written_at
        self._due = due
        self.began = asyncio.Event()
        self.done = asyncio.Event()
        self.lags_s: list[float] = []
        self.received_bytes = 0

    async def call(self, app: FastAPI, path: str) -> None:
        path, _, query = path.partition("?")
        await app(
            {
                "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
                "path": path, "raw_path": path.encode(), "root_path": "", "query_string": query.encode(),
                "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
            },
            self.receive,
            self.send,
        )  # fmt: skip

    async def receive(self) -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: Message) -> None:
        data = message.get("body", b"")
        self.received_bytes += len(data)
        if data.startswith(b"event: audio"):
            self.lags_s.append(time.perf_counter() - self._written_at[len(self.lags_s)])
            if len(self.lags_s) == self._due:
                self.done.set()
        elif data.startswith(b"event: snapshot"):
            self.began.set()


async def measure(listeners: int, seconds: float, audio: bool) -> dict[str, Any]:
    """Attach the listeners, play the track, and tell what it took."""
    async with _application() as (app, view):
        services: Services = app.state.services
        path = f"/api/v1/generate/{view.id}/events?audio={str(audio).lower()}"
        written_at: list[float] = []
        due = round(seconds / PIECE_S) if audio else 0
        await _left(
            await _joined(app, path, [Listener([]) for _ in range(10)])
        )  # what the first ones cost is not theirs
        clients = [Listener(written_at, due) for _ in range(listeners)]
        before, began = _resident_kib(), time.perf_counter()
        calls = await _joined(app, path, clients)
        attached_s = time.perf_counter() - began
        gc.collect()
        idle_kib = (_resident_kib() - before) / listeners
        cpu, wall = time.process_time(), time.perf_counter()
        await _play(services, view, seconds, written_at)
        if audio:
            await asyncio.gather(*(client.done.wait() for client in clients))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        gc.collect()
        busy_kib = (_resident_kib() - before) / listeners
        await _left(calls)
        assert services.feed.listeners == 0
    lags_ms = np.array([lag for client in clients for lag in client.lags_s]) * 1000 if audio else np.zeros(1)
    return {
        "listeners": listeners,
        "audio": audio,
        "attached_per_s": round(listeners / attached_s),
        "kib_per_idle_listener": round(idle_kib, 1),
        "kib_per_listener_after_playing": round(busy_kib, 1),
        "cpu_cores": round(cpu / wall, 2),
        "events_per_s": round(sum(len(client.lags_s) for client in clients) / wall),
        "mb_per_s": round(sum(client.received_bytes for client in clients) / wall / 1e6, 1),
        "lag_ms": {f"p{p}": round(float(np.percentile(lags_ms, p)), 1) for p in (50, 99, 100)},
    }


@asynccontextmanager
async def _application() -> AsyncIterator[tuple[FastAPI, GenerationView]]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        valkey = stack.enter_context(EmbeddedValkey())
        database = f"sqlite+aiosqlite:///{folder / 'tutti.db'}"
        await migrate(database)
        spec = ModelSpec("tiny", folder, "MIT", "none", 600.0, SAMPLE_RATE, 1, 50, 4)
        settings = Settings(data_dir=folder, database_url=database, redis_url=valkey.url, log_level="error")
        backend: Backend = NoBackend()
        app = create_app({"tiny": backend}, {"tiny": spec}, settings)
        await stack.enter_async_context(app.router.lifespan_context(app))
        services: Services = app.state.services
        await Listener([]).call(app, "/api/v1/user/profile")  # makes this machine's account
        key = Principal(LOCAL_ACCOUNT, Role.ADMIN, "enterprise", ALL_SCOPES, "local")
        wish = CreateGeneration("a tune", duration_s=600.0)
        created = await services.generations.create(key, wish, request_id=new_id("req"))
        yield app, created.view


async def _joined(app: FastAPI, path: str, clients: list[Listener]) -> list[asyncio.Task[None]]:
    """Until each of them has its snapshot."""
    calls: list[asyncio.Task[None]] = []
    for first in range(0, len(clients), _JOINING_AT_ONCE):
        joining = clients[first : first + _JOINING_AT_ONCE]
        calls += [asyncio.create_task(client.call(app, path)) for client in joining]
        await asyncio.gather(*(client.began.wait() for client in joining))
    return calls


async def _left(calls: list[asyncio.Task[None]]) -> None:
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def _play(services: Services, view: GenerationView, seconds: float, written_at: list[float]) -> None:
    """One piece every fifth of a second."""
    total = round(seconds / PIECE_S) * _PIECE_SAMPLES
    noise = np.random.default_rng(1).uniform(-1, 1, (total, 1)).astype("<f4")
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with FeedWriter(services.cache, services.bus).track(view.id, 0) as writer:
        for index, first in enumerate(range(0, total, _PIECE_SAMPLES)):
            await asyncio.sleep(max(0.0, began + index * PIECE_S - loop.time()))
            pcm = noise[first : first + _PIECE_SAMPLES].tobytes()
            written_at.append(time.perf_counter())
            writer.write(AudioChunk(index, first, 1, SAMPLE_RATE, pcm, total, is_last=first + _PIECE_SAMPLES >= total))


def _resident_kib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listeners", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of audio")
    parser.add_argument("--states", action="store_true", help="listeners want no audio")
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(measure(arguments.listeners, arguments.seconds, not arguments.states)), indent=1))


if __name__ == "__main__":
    main()
