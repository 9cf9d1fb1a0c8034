"""Audio that is deleted while a generation that was accepted with it has not ended."""

from __future__ import annotations

from dataclasses import replace

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from api.store.schema import generations, outbox
from tests.api.fakes import FakeGenerator
from tests.api.uploads.conftest import sound

URL = "/api/v1/generate"
WAIT = {"Prefer": "wait=30"}


@pytest.mark.parametrize("which", ["upload", "track"])
async def test_what_was_accepted_is_made(
    client: httpx2.AsyncClient, app: FastAPI, generator: FakeGenerator, which: str
) -> None:
    known = app.state.services.generations._models
    known.update({name: replace(spec, goes_on_from_audio=True) for name, spec in known.items()})
    if which == "upload":
        sent = await client.post("/api/v1/audio/uploads", content=sound(), headers={"Content-Type": "audio/wav"})
        path = f"/api/v1/audio/uploads/{sent.json()['id']}"
    else:
        made = (await client.post(URL, json={"prompt": "a tune", "duration": 1.0}, headers=WAIT)).json()
        path = f"/api/v1/audio/{made['tracks'][0]['id']}"
    call = {"prompt": "a tune", "duration": 2.0, "continuation": path.rpartition("/")[2]}

    gate = generator.hold(0)
    going_on = (await client.post(URL, json=call)).json()
    assert (await client.delete(path)).status_code == 204
    assert (await client.post(URL, json=call)).status_code == 404
    async with app.state.services.db.read() as conn:
        (due,) = await conn.scalars(select(outbox.c.available_at).where(outbox.c.kind == "object.delete"))
        (until,) = await conn.scalars(select(generations.c.expires_at).where(generations.c.id == going_on["id"]))
    assert due > until
    gate.set()
    ended = (await client.get(going_on["links"]["self"], headers=WAIT)).json()
    assert ended["state"] == "succeeded", ended
    assert generator.requests[-1].continues is not None
