"""One stored track behind a route that answers with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated

import httpx2
import pytest
import structlog
from fastapi import FastAPI, Query, Request
from sqlalchemy import select
from starlette.responses import Response

from api import handlers
from api.clock import utc_now
from api.formats.audio import AudioFormat
from api.formats.rendition import Rendition
from api.formats.responder import respond
from api.storage.audio import AudioLibrary
from api.storage.objects import ObjectStore
from api.storage.vault import Vault
from api.store.database import Database
from api.store.schema import tracks
from tests.api.fakes import sine
from tests.api.storage.rows import add_account, add_track

SAMPLES = 0.2 * sine(3, 70_001, 2)
SAMPLES[1_000] = 0.8  # so that a gain meets its limit


@dataclass
class Stage:
    """A track, what keeps it, and a client of the route ``/track``."""

    client: httpx2.AsyncClient
    library: AudioLibrary
    objects: ObjectStore
    object_key: str


@pytest.fixture
async def stage(database: Database) -> AsyncIterator[Stage]:
    objects = ObjectStore.from_url("memory:///")
    library = AudioLibrary(objects, Vault(database, {"m1": bytes(32)}, utc_now))
    track_id = await add_track(database, await add_account(database), library=library, samples=SAMPLES)
    async with database.read() as conn:
        row = (await conn.execute(select(tracks).where(tracks.c.id == track_id))).one()
    app = FastAPI()
    app.state.services = SimpleNamespace(log=structlog.wrap_logger(None, processors=[structlog.testing.LogCapture()]))
    handlers.install(app)

    @app.middleware("http")
    async def named(request: Request, call_next):  # type: ignore[no-untyped-def]
        request.state.request_id = "req_1"
        return await call_next(request)

    @app.api_route("/track", methods=["GET", "HEAD"])
    async def track(
        request: Request,
        audio_format: Annotated[AudioFormat, Query(alias="format")] = "wav",
        rate: int | None = None,
        loudness: float | None = None,
    ) -> Response:
        return await respond(library.renditions, request, row, Rendition(audio_format, rate, loudness))

    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://tutti") as client:
        yield Stage(client, library, objects, row.object_key)
