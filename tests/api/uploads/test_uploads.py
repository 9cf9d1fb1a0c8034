"""What is taken: every format, exactly; once for each key; for a while; for its owner alone."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator

import numpy as np
import pytest
import soundfile
from sqlalchemy import func, select

from api.auth.principal import Scope
from api.errors import ApiError, ErrorCode
from api.ids import new_id
from api.routes import uploads as routes
from api.store.schema import outbox, uploads
from api.uploads import service
from api.uploads.decoder import Decoder
from api.uploads.probe import probe
from api.uploads.reference import refuse, resolve
from tests.api.fakes import SAMPLE_RATE, sine
from tests.api.storage.rows import add_track
from tests.api.uploads.conftest import MAX_BYTES, MAX_S, Desk, sound

FORMATS = [
    ("WAV", "PCM_U8", 2e-2), ("WAV", "PCM_16", 1e-4), ("WAV", "PCM_24", 1e-6), ("WAV", "PCM_32", 1e-6),
    ("WAV", "FLOAT", 0), ("WAV", "DOUBLE", 0), ("WAVEX", "PCM_16", 1e-4), ("WAVEX", "FLOAT", 0),
    ("FLAC", "PCM_16", 1e-4), ("FLAC", "PCM_24", 1e-6), ("OGG", "VORBIS", 0.1), ("OGG", "OPUS", 0.1),
    ("MP3", "MPEG_LAYER_III", 0.1),
]  # fmt: skip


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("container", "subtype", "tolerance"), FORMATS)
async def test_every_format_becomes_its_samples(container: str, subtype: str, tolerance: float, channels: int) -> None:
    decoding = Decoder(MAX_S)
    data = sound(container, subtype, channels=channels)
    decoded = await decoding.decode(probe(data, MAX_S))
    decoding.close()
    expected, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    samples = np.frombuffer(decoded.pcm, "<f4").reshape(-1, channels)
    assert (decoded.sample_rate, decoded.channels, decoded.total_samples) == (rate, channels, len(expected))
    assert np.array_equal(samples, expected)
    if subtype != "OPUS":  # at 48 kHz the sine has another pitch
        assert np.abs(samples - sine(3, SAMPLE_RATE, channels)).max() <= tolerance


async def test_high_rates_come_down_to_48_khz() -> None:
    file = io.BytesIO()
    soundfile.write(file, np.sin(2 * np.pi * 440 * np.arange(96_000) / 96_000) / 2, 96_000, format="WAV")
    decoding = Decoder(MAX_S)
    decoded = await decoding.decode(probe(file.getvalue(), MAX_S))
    decoding.close()
    samples = np.frombuffer(decoded.pcm, "<f4")
    clean = np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000) / 2
    assert (decoded.sample_rate, len(samples)) == (48_000, 48_000)
    assert np.abs(samples - clean)[2_000:-2_000].max() < 1e-3


async def test_an_upload_is_kept_encrypted_and_can_be_read(desk: Desk) -> None:
    data = sound(channels=2)
    response = await desk.send(data)
    assert response.status_code == 201
    said = response.json()
    assert response.headers["location"] == f"{routes.PATH}/{said['id']}"
    assert (said["sample_rate"], said["channels"], said["duration"]) == (SAMPLE_RATE, 2, 1.0)
    assert said["expires_at"] > said["created_at"]
    async with desk.db.read() as conn:
        kept = await resolve(conn, desk.owner, said["id"], desk.stage.clock())
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    samples = await desk.stage.library.read(kept, 0, kept.total_samples)
    assert np.array_equal(samples, expected)
    assert said["sha256"] == hashlib.sha256(samples.tobytes()).hexdigest()
    assert expected.tobytes()[4_000:4_064] not in await desk.stage.objects.get(kept.object_key)
    assert (await desk.mine.get(response.headers["location"])).json() == said


async def test_to_everybody_else_it_does_not_exist(desk: Desk) -> None:
    address = (await desk.send(sound())).headers["location"]
    assert (await desk.theirs.get(address)).status_code == 404
    assert (await desk.theirs.delete(address)).status_code == 404
    assert (await desk.mine.get(address)).status_code == 200


@pytest.mark.parametrize("bad", ["x", "trk_" + "0" * 24, "upl_%00"])
async def test_what_is_no_id_is_not_found(desk: Desk, bad: str) -> None:
    assert (await desk.mine.get(f"{routes.PATH}/{bad}")).json()["error"]["code"] == "audio_not_found"


async def test_removing_leaves_work_for_the_outbox(desk: Desk) -> None:
    address = (await desk.send(sound())).headers["location"]
    assert (await desk.mine.delete(address)).status_code == 204
    assert (await desk.mine.delete(address)).status_code == 404
    async with desk.db.read() as conn:
        kind, payload = (await conn.execute(select(outbox.c.kind, outbox.c.payload))).one()
    assert kind == "object.delete"
    await desk.stage.library.delete(payload["object_key"])
    assert [entry async for entry in desk.stage.objects.listing("")] == []


async def test_it_expires(desk: Desk) -> None:
    said = (await desk.send(sound())).json()
    assert await desk.uploads.purge() == 0
    desk.stage.clock.advance(desk.stage.settings.upload_ttl_s)
    assert (await desk.mine.get(f"{routes.PATH}/{said['id']}")).status_code == 404
    async with desk.db.read() as conn:
        with pytest.raises(ApiError, match="expire"):
            await resolve(conn, desk.owner, said["id"], desk.stage.clock())
    assert await desk.uploads.purge() == 1
    assert await desk.uploads.purge() == 0
    async with desk.db.read() as conn:
        assert (await conn.execute(select(func.count()).select_from(uploads))).scalar_one() == 0
        assert (await conn.execute(select(func.count()).select_from(outbox))).scalar_one() == 1


async def test_the_same_key_uploads_once(desk: Desk) -> None:
    data = sound()
    first = await desk.send(data, Idempotency_Key="k1")
    second = await desk.send(data, Idempotency_Key="k1")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert second.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert len([entry async for entry in desk.stage.objects.listing("")]) == 1
    other = await desk.send(sound(seconds=0.5), Idempotency_Key="k1")
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert (await desk.send(data, Idempotency_Key="a b")).json()["error"]["param"] == "Idempotency-Key"


async def test_uploads_are_counted_and_refused(desk: Desk) -> None:
    await desk.send(sound())
    assert desk.stage.rates.hits == [("upload", desk.owner)]
    desk.stage.rates.refusal = ApiError(ErrorCode.RATE_LIMITED, retry_after_s=3)
    refused = await desk.send(sound())
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "3")


async def test_only_uploads_may_be_large(desk: Desk) -> None:
    too_large = await desk.send(bytes(MAX_BYTES + 1))
    assert (too_large.status_code, too_large.json()["error"]["details"]) == (413, {"max_bytes": MAX_BYTES})

    async def unsized() -> AsyncIterator[bytes]:
        for _ in range(MAX_BYTES // 65_536 + 1):
            yield bytes(65_536)

    headers = {"Content-Type": "audio/wav"}
    assert (await desk.mine.post(routes.PATH, content=unsized(), headers=headers)).status_code == 413
    elsewhere = await desk.mine.request("DELETE", f"{routes.PATH}/upl_1", content=bytes(1_025))
    assert (elsewhere.status_code, elsewhere.json()["error"]["details"]) == (413, {"max_bytes": 1_024})


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", "text/plain", ""])
async def test_what_is_not_sent_as_audio_is_refused(desk: Desk, kind: str) -> None:
    response = await desk.send(sound(), kind)
    assert (response.status_code, response.json()["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("kind", ["audio/x-whatever", "AUDIO/MPEG", "application/octet-stream", "application/ogg"])
async def test_what_the_file_is_its_bytes_say(desk: Desk, kind: str) -> None:
    assert (await desk.send(sound("FLAC"), kind)).status_code == 201


async def test_scopes_are_asked_for(desk: Desk) -> None:
    address = (await desk.send(sound())).headers["location"]
    desk.stage.accounts.scopes = frozenset({Scope.AUDIO_READ})
    assert (await desk.send(sound())).status_code == 403
    assert (await desk.mine.delete(address)).status_code == 403
    desk.stage.accounts.scopes = frozenset({Scope.AUDIO_WRITE})
    assert (await desk.mine.get(address)).status_code == 403


async def test_no_account_holds_every_place(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk.uploads.place(desk.owner), desk.uploads.place(desk.owner):
        refused = await desk.send(sound())
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "concurrency_limit_exceeded")
        async with desk.uploads.place("acc_other"):
            monkeypatch.setattr(service, "MAX_IN_HAND", 3)
            refused = await desk.send(sound())
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "system_overloaded")
    assert (await desk.send(sound())).status_code == 201


async def test_a_body_that_never_ends_is_given_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "BODY_S", 0.05)
    with pytest.raises(ApiError) as caught:
        async with desk.uploads.place(desk.owner):
            await asyncio.Event().wait()
    assert caught.value.code == "request_timeout"
    assert not desk.uploads._in_hand.total()


async def test_a_reference_is_an_upload_or_an_own_track(desk: Desk) -> None:
    now = desk.stage.clock()
    track = await add_track(desk.db, desk.owner, library=desk.stage.library, samples=sine(1, 640))
    running = await add_track(desk.db, desk.owner, state="running")
    async with desk.db.read() as conn:
        found = await resolve(conn, desk.owner, track, now)
        assert (found.id, found.total_samples, found.duration_s) == (track, 640, 0.02)
        for account, ref, code in (
            (desk.owner, running, "audio_not_ready"),
            (new_id("acc"), track, "audio_not_found"),
            (desk.owner, new_id("upl"), "audio_not_found"),
            (desk.owner, new_id("trk"), "audio_not_found"),
            (desk.owner, "upl_\0", "audio_not_found"),
            (desk.owner, "", "audio_not_found"),
        ):
            with pytest.raises(ApiError) as caught:
                await resolve(conn, account, ref, now)
            assert caught.value.code == code


def test_what_a_model_cannot_take_is_named() -> None:
    refusal = refuse("tiny", "melody")
    assert (refusal.code, refusal.param, refusal.status_code) == ("conditioning_unsupported", "melody", 422)
