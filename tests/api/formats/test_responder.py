"""Ranges, versions and headers of finished tracks: every part is the part of the whole."""

from __future__ import annotations

import asyncio
import io

import pytest
import soundfile
from sqlalchemy import select

from api.errors import ApiError
from api.formats import renditions, track_file
from api.formats.audio import FORMATS, AudioFormat, live_encoder, to_pcm16
from api.formats.ranges import requested_range
from api.formats.rendition import Rendition
from api.formats.renditions import Renditions
from api.formats.track_file import FinishedTrack, TrackFile
from api.store.database import Database
from api.store.schema import tracks
from tests.api.fakes import SAMPLE_RATE
from tests.api.formats.conftest import SAMPLES, Stage
from tests.api.storage.rows import add_account, add_track

ASKED = [(0, 1), (0, 44), (43, 45), (44, 48), (45, 51), (70_000, 140_007), (100, 100_000)]


@pytest.mark.parametrize("name", FORMATS)
async def test_any_range_is_that_part_of_the_whole(stage: Stage, name: AudioFormat) -> None:
    whole = await stage.client.get("/track", params={"format": name})
    assert whole.status_code == 200
    size = len(whole.content)
    assert whole.headers["content-length"] == str(size)
    assert whole.headers["accept-ranges"] == "bytes"
    within = [asked for asked in ASKED if asked[0] < size]
    for start, stop in [*within, (size - 1, size), (size - 7, size + 100), (0, size)]:
        part = await stage.client.get("/track", params={"format": name}, headers={"Range": f"bytes={start}-{stop - 1}"})
        assert part.status_code == 206
        assert part.content == whole.content[start:stop]
        assert part.headers["content-range"] == f"bytes {start}-{min(stop, size) - 1}/{size}"
        assert part.headers["content-length"] == str(len(part.content))
        assert part.headers["etag"] == whole.headers["etag"]
    assert (await stage.client.get("/track", params={"format": name}, headers={"Range": "bytes=-9"})).content == (
        whole.content[-9:]
    )
    rest = await stage.client.get("/track", params={"format": name}, headers={"Range": f"bytes={size - 3}-"})
    assert rest.content == whole.content[-3:]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("query", [{}, {"rate": "48000"}, {"loudness": "-20"}])
async def test_head_says_what_get_would(stage: Stage, name: AudioFormat, query: dict[str, str]) -> None:
    params = {"format": name, **query}
    get, head = await stage.client.get("/track", params=params), await stage.client.head("/track", params=params)
    assert head.status_code == 200
    assert head.content == b""
    assert dict(head.headers) == dict(get.headers)


async def test_it_is_the_file_that_was_streamed(stage: Stage) -> None:
    pieces = to_pcm16(SAMPLES.tobytes(), 2)
    for name in ("wav", "flac", "mp3", "opus", "pcm"):
        encoder = live_encoder(name, SAMPLE_RATE, 2, len(pieces))
        streamed = b"".join(encoder.encode(pieces[at : at + 6_400]) for at in range(0, len(pieces), 6_400))
        assert (await stage.client.get("/track", params={"format": name})).content == streamed + encoder.finish()


async def test_headers_say_what_it_is(stage: Stage) -> None:
    response = await stage.client.get("/track", params={"format": "flac24", "rate": "96000"})
    headers = response.headers
    assert headers["content-type"] == "audio/flac"
    assert headers["content-disposition"].endswith('.flac"')
    assert (headers["x-sample-rate"], headers["x-channels"]) == ("96000", "2")
    assert float(headers["x-audio-duration"]) == pytest.approx(70_001 / SAMPLE_RATE)
    info = soundfile.info(io.BytesIO(response.content))
    assert (info.samplerate, info.channels, info.subtype, info.frames) == (96_000, 2, "PCM_24", 210_003)
    assert "x-loudness" not in headers


async def test_loudness_is_stated(stage: Stage) -> None:
    headers = (await stage.client.get("/track", params={"loudness": "-28"})).headers
    assert headers["x-loudness"] == "-28.00 LUFS"
    assert headers["x-loudness-gain"].endswith(" dB")
    assert headers["x-loudness-limited"] == "false"
    headers = (await stage.client.get("/track", params={"loudness": "-5"})).headers
    assert headers["x-loudness-limited"] == "true"


async def test_every_version_has_a_name_of_its_own(stage: Stage) -> None:
    queries = [{"format": name} for name in FORMATS] + [{"rate": "48000"}, {"loudness": "-20"}, {"loudness": "-21"}]
    etags = {(await stage.client.head("/track", params=query)).headers["etag"] for query in queries}
    assert len(etags) == len(queries)


async def test_a_known_version_is_not_sent_again(stage: Stage) -> None:
    etag = (await stage.client.get("/track")).headers["etag"]
    for known in (etag, f'"x", W/{etag}', "*"):
        again = await stage.client.get("/track", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    assert (await stage.client.get("/track", headers={"If-None-Match": '"x"'})).status_code == 200


async def test_a_range_of_another_version_is_the_whole(stage: Stage) -> None:
    etag = (await stage.client.get("/track")).headers["etag"]
    same = await stage.client.get("/track", headers={"Range": "bytes=0-9", "If-Range": etag})
    other = await stage.client.get("/track", headers={"Range": "bytes=0-9", "If-Range": '"x"'})
    assert (same.status_code, other.status_code) == (206, 200)


async def test_behind_the_end_is_nothing(stage: Stage) -> None:
    size = len((await stage.client.get("/track")).content)
    for asked in (f"bytes={size}-", "bytes=-0", f"bytes={size + 5}-{size + 9}"):
        response = await stage.client.get("/track", headers={"Range": asked})
        assert response.status_code == 416
        assert response.headers["content-range"] == f"bytes */{size}"
        assert response.json()["error"]["code"] == "range_not_satisfiable"


@pytest.mark.parametrize(
    "header", ["bytes=5-2", "bytes=-", "bytes=a-b", "bytes=0-1,5-6", "items=0-1", "bytes", "bytes=" + "9" * 25 + "-"]
)
def test_what_is_no_range_is_ignored(header: str) -> None:
    assert requested_range({"range": header}, '"e"', 100) is None


async def test_what_cannot_be_read_is_a_clean_error(stage: Stage) -> None:
    await stage.objects.put(stage.object_key, (await stage.objects.get(stage.object_key))[:-1])
    for name in FORMATS:
        response = await stage.client.get("/track", params={"format": name})
        assert response.status_code == 500
        assert response.json()["error"]["code"] == "internal_error"


async def test_large_files_are_streamed_whole(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {
        name: await stage.client.get("/track", params={"format": name, "rate": "96000"}) for name in ("wav", "flac")
    }
    monkeypatch.setattr(track_file, "MAX_KEPT_BYTES", 1_000)
    for name, response in kept.items():
        params = {"format": name, "rate": "96000"}
        streamed = await stage.client.get("/track", params=params, headers={"Range": "bytes=0-9"})
        assert streamed.status_code == 200
        assert streamed.headers["accept-ranges"] == "none"
        assert streamed.content == response.content
        head = await stage.client.head("/track", params=params)
        assert dict(head.headers) == dict(streamed.headers)
    assert "content-length" not in head.headers


async def test_a_file_is_encoded_once_however_many_ask(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    encoder = TrackFile.encoder

    def counted(file: TrackFile):  # type: ignore[no-untyped-def]
        made.append(file.name)
        return encoder(file)

    monkeypatch.setattr(TrackFile, "encoder", counted)
    responses = await asyncio.gather(*(stage.client.get("/track", params={"format": "mp3"}) for _ in range(5)))
    assert len({response.content for response in responses}) == 1
    await stage.client.get("/track", params={"format": "mp3"})
    assert len(made) == 1


async def finished(db: Database, stage: Stage) -> FinishedTrack:
    async with db.read() as conn:
        return FinishedTrack.of(
            (await conn.execute(select(tracks).where(tracks.c.object_key == stage.object_key))).one()
        )


async def test_kept_files_stay_within_their_memory(stage: Stage, database: Database) -> None:
    track = await finished(database, stage)
    kept = Renditions(stage.library, max_cache_bytes=100_000)
    files = [
        TrackFile(track, Rendition("mp3")),
        TrackFile(track, Rendition("opus")),
        TrackFile(track, Rendition("flac")),
    ]
    for file in files:
        data = await kept.whole(file)
        assert kept._bytes == sum(map(len, kept._files.values())) <= 100_000
        assert data


async def test_more_than_can_be_encoded_is_refused(
    stage: Stage, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renditions, "MAX_RUNNING", 1)
    track = await finished(database, stage)
    busy = Renditions(stage.library)
    first = asyncio.create_task(busy.whole(TrackFile(track, Rendition("opus"))))
    await asyncio.sleep(0)
    with pytest.raises(ApiError) as caught:
        await busy.whole(TrackFile(track, Rendition("mp3")))
    assert caught.value.status_code == 503
    assert caught.value.headers["Retry-After"] == "2"  # type: ignore[index]
    assert await first
    assert await busy.whole(TrackFile(track, Rendition("mp3")))


async def test_who_leaves_does_not_take_the_file_along(stage: Stage, database: Database) -> None:
    shared = Renditions(stage.library)
    file = TrackFile(await finished(database, stage), Rendition("mp3"))
    leaving, staying = asyncio.create_task(shared.whole(file)), asyncio.create_task(shared.whole(file))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying
    assert leaving.cancelled()


async def test_a_track_without_audio_is_not_ready(database: Database) -> None:
    track_id = await add_track(database, await add_account(database), state="running")
    async with database.read() as conn:
        row = (await conn.execute(select(tracks).where(tracks.c.id == track_id))).one()
    with pytest.raises(ApiError) as caught:
        FinishedTrack.of(row)
    assert caught.value.code == "audio_not_ready"
