"""All that the family can do, over HTTP, workers and Serve, on a model that is stereo and follows melodies and on one
that hears styles: in one crowd the same music, to the last bit, as each alone."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import numpy as np
import pytest
import soundfile

from deployments.platform import Platform, load_config
from tests.deployments.conftest import ConfigWriter
from tests.deployments.test_worker import wait as ended
from tests.factories import make_checkpoint
from tests.style_files import make_style

pytestmark = [pytest.mark.ray, pytest.mark.slow]

GENERATE = "/api/v1/generate"
NOTES_HZ = (262, 294, 330, 349, 392, 330, 262)


@pytest.fixture(scope="module")
def family(platform: Platform, write_config: ConfigWriter, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """The session's platform, from now on with that model."""
    checkpoint = make_checkpoint(tmp_path_factory.mktemp("family") / "checkpoint", stereo=True, melody=True)
    platform.deploy(load_config(write_config(checkpoint=checkpoint)))
    return platform


@pytest.fixture(scope="module")
def stylish(family: Platform, write_config: ConfigWriter, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """The same platform, from now on with a style model."""
    checkpoint = make_style(tmp_path_factory.mktemp("style") / "checkpoint")
    family.deploy(load_config(write_config(checkpoint=checkpoint)))
    return family


def upload(http: httpx2.Client) -> str:
    """A tune at another rate than the model's, as a musician has it."""
    rate, seconds = 44_100, 0.25
    time_s = np.arange(int(rate * seconds)) / rate
    tune = np.concatenate([0.4 * np.sin(2 * np.pi * hertz * time_s) for hertz in NOTES_HZ])
    file = io.BytesIO()
    soundfile.write(file, np.column_stack([tune, tune[::-1]]), rate, format="FLAC")
    answer = http.post("/api/v1/audio/uploads", content=file.getvalue(), headers={"Content-Type": "audio/flac"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def made(http: httpx2.Client, **body: Any) -> list[dict[str, Any]]:
    """The tracks of one generation."""
    answer = http.post(GENERATE, json={"prompt": "a tune", "seed": 3, **body})
    assert answer.status_code == 202, answer.text
    seen = ended(http, answer.json()["links"]["self"])
    assert seen["state"] == "succeeded", seen
    tracks: list[dict[str, Any]] = seen["tracks"]
    return tracks


def heard(http: httpx2.Client, track: str) -> Any:
    file = http.get(f"/api/v1/audio/{track}/data", params={"format": "wav32f"}).raise_for_status()
    return soundfile.read(io.BytesIO(file.content), dtype="float32")[0]


def in_a_crowd_as_alone(http: httpx2.Client, kinds: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The tracks of each kind of request, which were made together; alone they are the same, and no two are alike."""
    with ThreadPoolExecutor(len(kinds)) as pool:
        crowd = dict(zip(kinds, pool.map(lambda body: made(http, **body), kinds.values()), strict=True))
    sums = {kind: [track["sha256"] for track in tracks] for kind, tracks in crowd.items()}
    alone = {kind: [track["sha256"] for track in made(http, **body)] for kind, body in kinds.items()}
    assert sums == alone
    assert len({each for kind in sums.values() for each in kind}) == sum(map(len, sums.values()))  # nothing was ignored
    return crowd


def test_every_kind_of_request_in_one_crowd_is_what_it_is_alone(family: Platform, http: httpx2.Client) -> None:
    (model,) = http.get("/api/v1/models").json()["data"]
    assert model["takes"] == {"continuation": True, "melody": True, "style": False}
    tune = upload(http)
    (preview,) = made(http, duration=1.0)
    kinds: dict[str, dict[str, Any]] = {
        "text": {"duration": 2.0},
        "unguided": {"duration": 2.0, "guidance": 1.0},
        "melody": {"duration": 2.0, "melody": tune},
        "variations": {"duration": 1.5, "melody": tune, "num_tracks": 2},
        "continuation of a file": {"duration": 3.0, "continuation": tune},
        "continuation of a track": {"duration": 2.0, "continuation": preview["id"], "melody": tune},
        "long": {"duration": 31.0, "melody": tune, "extend_stride": 20.0},
    }
    crowd = in_a_crowd_as_alone(http, kinds)

    beginning, extended = (heard(http, each["id"]) for each in (preview, crowd["continuation of a track"][0]))
    rate = model["sample_rate"]
    assert extended.shape == (2 * rate, 2)
    settled = rate * 46 // 50  # a frame sounds into the four before it
    assert np.array_equal(extended[:settled], beginning[:settled])
    assert not np.array_equal(extended[:, 0], extended[:, 1])


def test_styles_are_heard_beside_every_other_kind(stylish: Platform, http: httpx2.Client) -> None:
    (model,) = http.get("/api/v1/models").json()["data"]
    assert model["takes"] == {"continuation": True, "melody": False, "style": True}
    sound = upload(http)
    (earlier,) = made(http, duration=2.0)
    like = {"style": sound, "style_excerpt": 1.5}
    in_a_crowd_as_alone(
        http,
        {
            "text": {"duration": 2.0},
            "style, three rows": {"duration": 2.0, **like},
            "style, two rows": {"duration": 2.0, **like, "guidance_beta": 1},
            "variations": {"duration": 1.5, **like, "num_tracks": 2},
            "gone on from what it is like": {"duration": 3.0, "style": earlier["id"], "continuation": earlier["id"]},
        },
    )
