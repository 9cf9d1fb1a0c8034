"""What is taken out of a melody before its tune is looked for: asked for, refused, and stated by every answer."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from api.readiness import ModelState
from api.schemas.models import describe
from tests.api.fakes import FakeGenerator
from tests.api.generations.test_conditioning import BODY, URL, WAIT, change, models, noise, uploaded

__all__ = ["models"]


async def test_what_is_taken_out_of_a_melody_is_stated_and_kept(
    client: httpx2.AsyncClient, app: FastAPI, generator: FakeGenerator
) -> None:
    """By every answer, and by what the replica is asked for, whatever the model is set up for later."""
    upload = await uploaded(client, noise(0.5, 8_000), 8_000)
    body, asked = {**BODY, "melody": upload}, []
    for separation, more in (
        ("none", {}),
        ("htdemucs", {}),
        ("htdemucs", {"melody_separation": "none"}),
        ("htdemucs", {"melody_separation": "htdemucs"}),
    ):
        change(app, separation=separation)
        made = (await client.post(URL, json={**body, **more}, headers=WAIT)).json()
        used = more.get("melody_separation", separation)
        assert made["state"] == "succeeded", made
        told = [made["melody"]["source_separation"], made["parameters"]["melody_separation"]]
        asked.append(generator.requests[-1].melody_separation)
        assert [*told, asked[-1]] == [used] * 3
        spec = app.state.services.generations._models["tiny"]
        listed = describe("tiny", spec, [], ModelState(True, 1), default=True)
        assert listed.melody_separation == separation
    assert asked == ["none", "htdemucs", "none", "htdemucs"]
    change(app, separation="htdemucs")
    streamed = await client.post(f"{URL}/stream", json=body)
    assert streamed.headers["x-melody-separation"] == "htdemucs"
    change(app, separation="none")
    kept = (await client.get(f"{URL}/{streamed.headers['x-generation-id']}")).json()
    assert kept["melody"] == {"duration": 0.5, "source_separation": "htdemucs"}
    async with client.stream("GET", f"{URL}/{kept['id']}/events") as events:
        lines = [line async for line in events.aiter_lines()]
    first = next(line for line in lines if line.startswith("data:"))
    assert '"source_separation":"htdemucs"' in first.replace(" ", "")
    plain = await client.post(f"{URL}/stream", json=BODY)
    assert "x-melody-separation" not in plain.headers


@pytest.mark.parametrize("path", [URL, f"{URL}/stream"])
async def test_a_separation_that_can_not_be_had_is_refused(
    client: httpx2.AsyncClient, app: FastAPI, generator: FakeGenerator, path: str
) -> None:
    upload = await uploaded(client, noise(0.5, 8_000), 8_000)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"melody": upload, "melody_separation": "htdemucs"}, "htdemucs is not set up for it on this server"),
        ({"melody": upload, "melody_separation": "spleeter"}, "'none' or 'htdemucs'"),
        ({"melody_separation": "none"}, "there is none"),
    ]
    for more, says in refused:
        answer = await client.post(path, json={**BODY, **more})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (422, "invalid_parameter", "melody_separation")
        assert says in error["message"], error
    assert generator.requests == []
