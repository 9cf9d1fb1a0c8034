"""From a file of any rate to music that sounds like it: the routes, the worker, and an engine with a style model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch

from models.catalog import ModelSpec, describe
from models.engine.async_engine import AsyncEngine
from models.engine_config import EngineConfig
from models.style_excerpt import excerpt_start
from models.style_prompt import HeardStyle, StylePrompt
from tests.api.conftest import MakePlatform
from tests.api.generations.test_conditioning import uploaded
from tests.api.generations.test_real_melody import Playing
from tests.style_files import make_style

URL = "/api/v1/generate"
BODY: dict[str, Any] = {"prompt": "a calm tune", "duration": 0.3, "seed": 5}
WAIT = {"Prefer": "wait=30"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_style(tmp_path_factory.mktemp("random") / "checkpoint")


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Iterator[AsyncEngine]:
    running = AsyncEngine.from_path(checkpoint, EngineConfig(max_rows=9, num_threads=1, return_codes=True))
    yield running
    running.shutdown()


@pytest.fixture
def model(checkpoint: Path) -> ModelSpec:
    return describe(checkpoint, "tiny")


async def test_a_style_is_heard_and_the_result_says_what_of_it(
    make_platform: MakePlatform, engine: AsyncEngine, model: ModelSpec
) -> None:
    playing = Playing(engine=engine)
    platform = await make_platform(playing)
    platform.services.generations._models["tiny"] = model
    transport = httpx2.ASGITransport(platform.app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        times = np.arange(20_000) / 8_000
        sound = await uploaded(client, 0.5 * np.sin(2 * np.pi * (220 + 300 * times) * times), 8_000)
        like = {"style": sound, "style_excerpt": 1.5}
        made = [
            (await client.post(URL, json={**BODY, **more}, headers=WAIT)).json()
            for more in ({}, like, {**like, "guidance_beta": 1, "style_streams": 6, "num_tracks": 2}, {"style": sound})
        ]
        assert [each["state"] for each in made] == ["succeeded"] * 4, made
        assert len({track["sha256"] for each in made for track in each["tracks"]}) == 5
        assert [each.num_rows for each in playing.requests] == [2, 3, 2, 2, 3]

        plain, one, two, whole = made
        assert plain["style"] is None
        assert one["style"]["duration"] == 1.5
        assert {name: one["parameters"][name] for name in ("style", "style_excerpt", "style_streams")} == {
            **like,
            "style_streams": 3,
        }
        assert whole["style"] == {"duration": 2.5, "starts": [[0.0]]}, "a sound that is shorter is heard as a whole"
        (first,), (second,) = two["style"]["starts"]
        assert first == one["style"]["starts"][0][0], "the same seed"
        assert first != second
        assert all(0 <= each <= 1 for each in (first, second))
        # What is told is what the engine heard: the codes of that very part.
        request = playing.requests[1]
        assert isinstance(request.style, StylePrompt)
        heard = engine._engine.encoded(request).style
        assert isinstance(heard, HeardStyle)
        conditioner, samples = engine._engine._styles._conditioner, request.style.audio
        assert conditioner is not None
        at = round(first * samples.sample_rate)
        pcm = torch.frombuffer(bytearray(samples.pcm), dtype=torch.float32)
        exact = excerpt_start(5, 0, len(pcm) - 48_000)
        assert abs(exact - at) <= 16  # it is told to the millisecond
        assert heard.windows[0] == conditioner.heard(pcm[exact : exact + 48_000], 3).numpy().tobytes()

        streamed = await client.post(f"{URL}/stream", json={**BODY, **like, "format": "pcm"})
        assert len(streamed.content) == 19_200
        assert playing.requests[-1].style == request.style
        again = (await client.post(URL, json=one["parameters"], headers=WAIT)).json()
        assert again["tracks"][0]["sha256"] == one["tracks"][0]["sha256"], "sent again, the same music"


REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"style": "short"}, "style"),
    ({"style": "sound", "style_excerpt": 1.4}, "style_excerpt"),
    ({"style": "sound", "style_streams": 7}, "style_streams"),
    ({"style": "sound", "style_streams": True}, "style_streams"),
    ({"style": "sound", "guidance_beta": 0.5}, "guidance_beta"),
    ({"style_excerpt": 3.0}, "style_excerpt"),
    ({"style_streams": 3}, "style_streams"),
    ({"guidance_beta": 3.0}, "guidance_beta"),
    ({"melody": "sound"}, "melody"),
]


@pytest.mark.parametrize("path", [URL, f"{URL}/stream"])
async def test_what_can_not_be_honoured_is_refused_at_the_door(
    make_platform: MakePlatform, model: ModelSpec, path: str
) -> None:
    playing = Playing()
    platform = await make_platform(playing)
    platform.services.generations._models["tiny"] = model
    transport = httpx2.ASGITransport(platform.app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000)
        ids = {"sound": await uploaded(client, noise, 8_000), "short": await uploaded(client, noise[:11_000], 8_000)}
        for more, param in REFUSALS:
            asked = {name: ids.get(value, value) if isinstance(value, str) else value for name, value in more.items()}
            answer = await client.post(path, json={**BODY, **asked})
            assert (answer.status_code, answer.json()["error"]["param"]) == (422, param), (more, answer.text)
    assert playing.requests == []
