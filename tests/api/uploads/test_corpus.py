"""Whatever is sent: a clear refusal, nothing stored, and the next file is taken as if nothing had been."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from api.errors import ApiError
from api.store.schema import uploads
from api.uploads.decoder import Decoder
from api.uploads.probe import probe
from tests.api.uploads.conftest import MAX_BYTES, MAX_S, Desk, sound
from tests.api.uploads.corpus import CORPUS, TOO_LONG

CODES = {"unsupported_media_type": 415, "unreadable_audio": 422, "audio_too_long": 422}
ONE_DATABASE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@ONE_DATABASE
async def test_every_bad_file_is_refused_and_nothing_is_kept(desk: Desk) -> None:
    for name, (make, code) in CORPUS.items():
        data = make()
        assert len(data) <= MAX_BYTES, name
        response = await desk.send(data)
        assert response.status_code >= 400, name
        assert (response.json()["error"]["code"], response.status_code) == (code, CODES[code]), name
    async with desk.db.read() as conn:
        assert (await conn.execute(select(func.count()).select_from(uploads))).scalar_one() == 0
    assert [entry async for entry in desk.stage.objects.listing("")] == []
    assert (await desk.send(sound())).status_code == 201


@pytest.mark.parametrize("name", [name for name, (_, code) in CORPUS.items() if code == TOO_LONG])
def test_bombs_are_small(name: str) -> None:
    """That is what makes them bombs: they pass every limit on bytes."""
    assert len(CORPUS[name][0]()) < MAX_BYTES


@settings(max_examples=300, deadline=None)
@given(data=st.one_of(st.binary(max_size=300), st.binary(max_size=100).map(lambda tail: b"RIFF1234WAVE" + tail),
                      st.binary(max_size=100).map(lambda tail: b"fLaC" + tail),
                      st.binary(max_size=100).map(lambda tail: b"OggS" + tail),
                      st.binary(max_size=100).map(lambda tail: b"ID3" + tail),
                      st.binary(max_size=100).map(lambda tail: b"\xff\xfb\x90" + tail)))  # fmt: skip
def test_the_probe_answers_or_refuses(data: bytes) -> None:
    refusal: ApiError | None = None
    try:
        probe(data, MAX_S)
    except ApiError as error:
        refusal = error
    assert refusal is None or refusal.code.value in CODES


@ONE_DATABASE
async def test_damage_anywhere_is_refused_or_is_sound(desk: Desk) -> None:
    """Flipped bytes: no decoder hangs, no answer is an error of the server."""
    chance = random.Random(7)
    files = [sound(), sound("FLAC"), sound("OGG", "VORBIS"), sound("OGG", "OPUS"), sound("MP3", "MPEG_LAYER_III")]
    for data in files * 4:
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 30)):
            damaged[chance.randrange(len(damaged) if chance.random() < 0.5 else 200)] = chance.randrange(256)
        response = await desk.send(bytes(damaged))
        assert response.status_code in {201, 415, 422}, response.text


def polyglots() -> dict[str, bytes]:
    plain, wave, flac = sound("MP3", "MPEG_LAYER_III"), sound(), sound("FLAC")
    frames = flac[46 + int.from_bytes(flac[43:46], "big") :]
    page = b"<html><script>alert(1)</script></html>"
    tag = b"ID3\x04\0\0\0\0\0" + bytes([len(page)]) + page
    comment = b"\x04" + len(page).to_bytes(3, "big") + page
    return {
        "mp3": tag + plain,
        "wav": wave[:12] + b"LIST" + len(page).to_bytes(4, "little") + page + wave[12:] + b"PK\x05\x06" + bytes(18),
        "flac": flac[:4] + b"\0" + flac[5:42] + comment + b"\x81\0\0\x01\0" + frames,
    }


@pytest.mark.parametrize("container", ["mp3", "wav", "flac"])
async def test_of_a_file_that_is_two_things_only_the_sound_goes_on(container: str) -> None:
    file = probe(polyglots()[container], MAX_S)
    assert file.container == container
    assert b"script" not in file.data
    assert b"PK" not in file.data[-30:]
    decoding = Decoder(MAX_S)
    assert (await decoding.decode(file)).total_samples == 32_000
    decoding.close()
