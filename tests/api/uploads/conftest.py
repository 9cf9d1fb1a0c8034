"""Uploads through the route, and sounds to upload."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import numpy as np
import pytest
import soundfile
from fastapi import FastAPI

from api.middleware import BodyLimit
from api.routes import uploads as routes
from api.store.database import Database
from api.uploads.service import Uploads
from tests.api.fakes import SAMPLE_RATE, sine
from tests.api.storage.rows import add_account
from tests.api.storage.stage import Stage

MAX_BYTES = 2**20
MAX_S = 10.0


def sound(container: str = "WAV", subtype: str | None = None, *, seconds: float = 1.0, channels: int = 1) -> bytes:
    """A sine as a file, by libsndfile."""
    rate = 48_000 if subtype == "OPUS" else SAMPLE_RATE
    file = io.BytesIO()
    soundfile.write(file, sine(3, int(seconds * rate), channels), rate, format=container, subtype=subtype)
    return file.getvalue()


def silence(container: str, subtype: str, seconds: float, rate: int = 48_000) -> bytes:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, 1, format=container, subtype=subtype) as whole:
        for _ in range(int(seconds)):  # libsndfile's Vorbis runs out of stack when it gets minutes at once
            whole.write(np.zeros(rate, np.float32))
    return file.getvalue()


@dataclass
class Desk:
    """Where files are handed in."""

    stage: Stage
    uploads: Uploads
    owner: str
    mine: httpx2.AsyncClient
    theirs: httpx2.AsyncClient

    @property
    def db(self) -> Database:
        return self.stage.database

    async def send(self, data: bytes, kind: str = "audio/wav", **headers: Any) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.mine.post(routes.PATH, content=data, headers={"Content-Type": kind, **named})


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Desk]:
    stage = Stage.of(database, max_upload_s=MAX_S, max_upload_bytes=MAX_BYTES)
    uploads = Uploads(database, stage.library, stage.settings, stage.clock)
    owner, stranger = await add_account(database), await add_account(database)

    def limit(app: FastAPI) -> None:
        exceptions = {("POST", routes.PATH): stage.settings.max_upload_bytes}
        app.add_middleware(BodyLimit, max_bytes=1024, exceptions=exceptions)

    app = stage.app(routes.router, limit=limit, uploads=uploads)
    async with stage.client(app, owner) as mine, stage.client(app, stranger) as theirs:
        yield Desk(stage, uploads, owner, mine, theirs)
    uploads.close()
