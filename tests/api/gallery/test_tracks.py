"""One track: what is said of it, its audio, its waveform, its end; to everybody else it does not exist."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from sqlalchemy import func, select

from api.auth.principal import Scope
from api.formats.base import to_pcm16
from api.formats.wav import wav_header
from api.ids import new_id
from api.store.schema import outbox, tracks
from tests.api.fakes import SAMPLE_RATE, sine
from tests.api.gallery.conftest import Gallery
from tests.api.storage.rows import add_generation, add_track

SAMPLES = sine(3, 2 * SAMPLE_RATE, 2)


async def stored(shown: Gallery) -> str:
    return await add_track(shown.db, shown.owner, library=shown.stage.library, samples=SAMPLES, metadata={"scene": 3})


async def test_what_is_said_of_a_finished_track(shown: Gallery) -> None:
    track_id = await stored(shown)
    track = (await shown.mine.get(f"/api/v1/audio/{track_id}")).json()
    assert (track["state"], track["model"], track["seed"], track["duration"]) == ("succeeded", "tiny", 7, 2.0)
    assert (track["sample_rate"], track["channels"], track["total_samples"]) == (SAMPLE_RATE, 2, len(SAMPLES))
    assert track["metadata"] == {"scene": 3}
    assert track["peak"] == pytest.approx(0.5, abs=1e-3)
    assert track["links"]["self"] == f"/api/v1/audio/{track_id}"
    assert "object_key" not in track
    listed = (await shown.mine.get("/api/v1/audio")).json()["data"]
    assert listed == [track]


async def test_what_is_said_of_a_track_that_has_not_begun(shown: Gallery) -> None:
    track_id = await add_track(shown.db, shown.owner, state="queued")
    track = (await shown.mine.get(f"/api/v1/audio/{track_id}")).json()
    assert track["state"] == "queued"
    assert track["duration"] is track["sha256"] is track["finished_at"] is None


async def test_the_audio_and_any_part_of_it(shown: Gallery) -> None:
    address = f"/api/v1/audio/{await stored(shown)}/data"
    whole = await shown.mine.get(address)
    pcm = to_pcm16(SAMPLES.tobytes(), 2).tobytes()
    assert whole.content == wav_header(SAMPLE_RATE, 2, len(SAMPLES)) + pcm
    assert whole.headers["content-type"] == "audio/wav"
    part = await shown.mine.get(address, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    head = await shown.mine.head(address)
    assert (
        dict(head.headers).items() >= {"content-length": str(len(whole.content)), "etag": whole.headers["etag"]}.items()
    )


async def test_formats_by_name_options_and_accept(shown: Gallery) -> None:
    address = f"/api/v1/audio/{await stored(shown)}/data"
    by_accept = await shown.mine.get(address, headers={"Accept": "audio/flac"})
    by_name = await shown.mine.get(address, params={"format": "flac"}, headers={"Accept": "audio/mpeg"})
    assert by_accept.content == by_name.content
    high = await shown.mine.get(address, params={"format": "wav24", "sample_rate": 96_000, "loudness": -16})
    info = soundfile.info(io.BytesIO(high.content))
    assert (info.samplerate, info.subtype, info.frames) == (96_000, "PCM_24", 6 * SAMPLE_RATE)
    assert high.headers["x-loudness"] == "-16.00 LUFS"


@pytest.mark.parametrize(
    ("params", "param"),
    [({"format": "aiff"}, "format"), ({"sample_rate": "22050"}, "sample_rate"), ({"loudness": "0"}, "loudness"),
     ({"loudness": "nan"}, "loudness"), ({"format": "opus", "sample_rate": "96000"}, "sample_rate")],
)  # fmt: skip
async def test_options_that_cannot_be_are_refused(shown: Gallery, params: dict[str, str], param: str) -> None:
    response = await shown.mine.get(f"/api/v1/audio/{await stored(shown)}/data", params=params)
    assert response.status_code == 422
    assert response.json()["error"]["param"] == param


async def test_nothing_acceptable_is_said(shown: Gallery) -> None:
    response = await shown.mine.get(f"/api/v1/audio/{await stored(shown)}/data", headers={"Accept": "image/png"})
    assert (response.status_code, response.json()["error"]["code"]) == (406, "not_acceptable")


@pytest.mark.parametrize("state", ["queued", "running", "cancelling", "failed", "cancelled", "expired"])
async def test_audio_that_is_not_there_is_not_ready(shown: Gallery, state: str) -> None:
    track_id = await add_track(shown.db, shown.owner, state=state)
    for what in ("data", "peaks"):
        response = await shown.mine.get(f"/api/v1/audio/{track_id}/{what}")
        assert (response.status_code, response.json()["error"]["code"]) == (409, "audio_not_ready")


async def test_the_waveform(shown: Gallery) -> None:
    address = f"/api/v1/audio/{await stored(shown)}/peaks"
    peaks = (await shown.mine.get(address)).json()
    assert (peaks["bins"], len(peaks["minima"]), peaks["scale"], peaks["duration"]) == (1000, 1000, 127, 2.0)
    few = (await shown.mine.get(address, params={"bins": 3})).json()
    assert (min(peaks["minima"]), max(peaks["maxima"])) == (min(few["minima"]), max(few["maxima"]))
    assert max(few["maxima"]) == int(np.ceil(np.abs(SAMPLES).max() * 127))
    for bins in (0, 1001):
        assert (await shown.mine.get(address, params={"bins": bins})).status_code == 422


async def test_removing_leaves_no_row_and_work_for_the_outbox(shown: Gallery) -> None:
    track_id = await stored(shown)
    async with shown.db.read() as conn:
        key = (await conn.execute(select(tracks.c.object_key))).scalar_one()
    removed = await shown.mine.delete(f"/api/v1/audio/{track_id}")
    assert (removed.status_code, removed.content) == (204, b"")
    async with shown.db.read() as conn:
        left = (await conn.execute(select(outbox.c.kind, outbox.c.payload))).one()
    assert tuple(left) == ("object.delete", {"object_key": key})
    for response in (
        await shown.mine.get(f"/api/v1/audio/{track_id}"),
        await shown.mine.get(f"/api/v1/audio/{track_id}/data"),
        await shown.mine.delete(f"/api/v1/audio/{track_id}"),
    ):
        assert (response.status_code, response.json()["error"]["code"]) == (404, "audio_not_found")


@pytest.mark.parametrize(("state", "status"), [
    ("queued", 409), ("running", 409), ("cancelling", 409), ("failed", 204), ("cancelled", 204), ("expired", 204),
])  # fmt: skip
async def test_only_what_has_ended_can_be_removed(shown: Gallery, state: str, status: int) -> None:
    track_id = await add_track(shown.db, shown.owner, state=state)
    assert (await shown.mine.delete(f"/api/v1/audio/{track_id}")).status_code == status
    async with shown.db.read() as conn:
        assert (await conn.execute(select(func.count()).select_from(outbox))).scalar_one() == 0


async def test_one_of_several_tracks_can_go(shown: Gallery) -> None:
    generation = await add_generation(shown.db, shown.owner, num_tracks=2)
    one = await add_track(shown.db, shown.owner, generation_id=generation, position=0)
    two = await add_track(shown.db, shown.owner, generation_id=generation, position=1)
    await shown.mine.delete(f"/api/v1/audio/{one}")
    assert (await shown.mine.get(f"/api/v1/audio/{two}")).json()["generation_id"] == generation


@pytest.mark.parametrize("path", ["", "/data", "/peaks"])
async def test_to_everybody_else_it_does_not_exist(shown: Gallery, path: str) -> None:
    real, made_up = await stored(shown), new_id("trk")
    answers = [await shown.theirs.get(f"/api/v1/audio/{track_id}{path}") for track_id in (real, made_up)]
    bodies = [{**answer.json()["error"], "request_id": ""} for answer in answers]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert bodies[0] == bodies[1]
    assert (await shown.theirs.delete(f"/api/v1/audio/{real}")).status_code == 404
    assert (await shown.mine.get(f"/api/v1/audio/{real}")).status_code == 200


@pytest.mark.parametrize("bad", ["x", "gen_" + "0" * 24, "trk_%00", "trk_" + "G" * 24, "..%2f"])
async def test_what_is_no_id_is_not_found(shown: Gallery, bad: str) -> None:
    assert (await shown.mine.get(f"/api/v1/audio/{bad}")).status_code == 404


async def test_scopes_are_asked_for(shown: Gallery) -> None:
    track_id = await stored(shown)
    shown.stage.accounts.scopes = frozenset({Scope.GENERATIONS_WRITE, Scope.AUDIO_READ})
    assert (await shown.mine.delete(f"/api/v1/audio/{track_id}")).status_code == 403
    shown.stage.accounts.scopes = frozenset({Scope.AUDIO_WRITE})
    for path in ("", f"/{track_id}", f"/{track_id}/data", f"/{track_id}/peaks"):
        assert (await shown.mine.get(f"/api/v1/audio{path}")).status_code == 403
